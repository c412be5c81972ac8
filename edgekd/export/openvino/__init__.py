"""Exports for OpenVINO."""
