"""A trajectory in a folder, to hand it from one process to another.

`<part>.npz` holds the arrays of a part's calls, `images.npz` the pictures, and `trajectory.json`
the rest. numpy is told to refuse pickled objects. A trajectory at other shapes is in `other/`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd.export.record import Arrays, Recording, Session, Trajectory
from edgekd.files import write_json
from edgekd.reading import read_json

INDEX_FILE = "trajectory.json"
_OTHER = "other"


def save_trajectory(trajectory: Trajectory, folder: Path) -> None:
    """Write a trajectory into a folder that need not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, calls in trajectory.recordings.items():
        arrays = {
            f"{index}.{side}.{name}": value
            for index, call in enumerate(calls)
            for side, values in (("in", call.inputs), ("out", call.outputs))
            for name, value in values.items()
        }
        np.savez(folder / f"{part}.npz", allow_pickle=False, **arrays)
    np.savez(folder / "images.npz", allow_pickle=False, images=trajectory.images)
    if trajectory.other is not None:
        save_trajectory(trajectory.other, folder / _OTHER)
    write_json(
        folder / INDEX_FILE,
        {
            "session": trajectory.session.model_dump(),
            "timesteps": {
                part: [call.timestep for call in calls]
                for part, calls in trajectory.recordings.items()
            },
        },
    )


def load_trajectory(folder: Path) -> Trajectory:
    """Read what `save_trajectory` wrote."""
    facts = read_json(folder / INDEX_FILE)
    timesteps = facts["timesteps"]
    with np.load(folder / "images.npz", allow_pickle=False) as stored:
        images = stored["images"]
    return Trajectory(
        recordings={part: _load_calls(folder, part, times) for part, times in timesteps.items()},
        images=images,
        session=Session.model_validate(facts["session"]),
        other=load_trajectory(folder / _OTHER) if (folder / _OTHER).is_dir() else None,
    )


def _load_calls(folder: Path, part: str, timesteps: list[float | None]) -> list[Recording]:
    calls: list[dict[str, Arrays]] = [{"in": {}, "out": {}} for _ in timesteps]
    with np.load(folder / f"{part}.npz", allow_pickle=False) as stored:
        for key in stored.files:
            index, side, name = key.split(".", 2)
            calls[int(index)][side][name] = stored[key]
    return [
        Recording(call["in"], call["out"], timestep)
        for call, timestep in zip(calls, timesteps, strict=True)
    ]
