"""The command line: one file a verb; heavy imports stand inside the verb that needs them."""

from edgekd.cli.app import main

__all__ = ["main"]
