"""Exported pipelines inside apps: what a kind of bundle is, and what every bundle holds."""
