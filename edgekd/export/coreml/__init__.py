"""Exports for Core ML, and their evaluation off a Mac."""
