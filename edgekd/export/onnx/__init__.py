"""Exports for onnxruntime."""
