"""`edgekd targets`."""

from __future__ import annotations

from edgekd.cli.options import (
    JsonOption,
    print_json,
)


def targets(as_json: JsonOption = False) -> None:
    """List the export targets, and the samplers that their clients know."""
    from edgekd.runtime.sampler_names import ALIASES
    from edgekd.target import list_targets

    aliases = {name: alias for alias, name in ALIASES.items()}
    rows = list_targets()
    if as_json:
        print_json([row.model_dump() for row in rows])
        return
    for row in rows:
        print(f"{row.name:<14}{row.runtime:<10}{','.join(row.precisions):<20}{row.description}")
        samplers = (aliases.get(name, name) for name in row.schedulers)
        print(f"{'':<14}samplers: {', '.join(samplers)}")
