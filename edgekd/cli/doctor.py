"""`edgekd doctor`."""

from __future__ import annotations

from edgekd.cli.options import (
    JsonOption,
    print_json,
)


def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, and how to install what it can't."""
    from edgekd.doctor import examine

    rows = examine()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(f"{'ok' if row['ok'] else '--':<4}{row['name']:<22}{row['detail']}")
