from fixtures.browsers import axe, browser

__all__ = ["axe", "browser"]
