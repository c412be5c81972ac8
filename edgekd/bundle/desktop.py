"""The desktop app: Python and Qt, no torch."""
