"""`python -m desktop`, from the folder of the bundle."""

from __future__ import annotations

import sys


def main() -> int:
    try:
        from desktop.window import run
    except ModuleNotFoundError as error:
        missing = error.name or "a module"
        ours = missing.partition(".")[0] in ("desktop", "edgekd")
        way = "unpack the bundle again" if ours else "pip install -r requirements.txt"
        print(f"error: {missing} is missing: {way}", file=sys.stderr)
        return 1
    return run(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
