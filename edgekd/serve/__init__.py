"""Serve exported folders over HTTP, as OpenAI's Images API; needs no torch."""
