"""Several processes of one launch: the first does the whole job, the others help it to train.

They meet in the store that the launcher (`accelerate launch`, `torchrun`) keeps for them, where
the first leaves what is to be trained. A collective operation would time out while it prepares.
"""

from __future__ import annotations

import datetime
import os
import pickle
from pathlib import Path
from typing import Any

from edgekd.artifacts import TeacherCache
from edgekd.jobs.plan import Plan
from edgekd.progress import Silent

_KEY = "edgekd/work"
# Preparing millions of images takes days.
_PATIENCE = datetime.timedelta(days=30)


def rank() -> int:
    """This process's number in its launch."""
    return int(os.environ.get("RANK", "0"))


def share(plan: Plan, cache: TeacherCache, out: Path) -> None:
    """Let the launch's other processes, if there are any, train along."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _store().set(_KEY, pickle.dumps((plan, cache, out)))


def follow() -> None:
    """Train along with the first process, which writes."""
    from edgekd.jobs.phases import train_phases

    plan, cache, out = pickle.loads(_store().get(_KEY))
    train_phases(plan, cache, out, Silent())


def _store() -> Any:
    import torch.distributed

    launcher: Any = torch.distributed  # which types do not name the store
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return launcher.TCPStore(address, port, is_master=False, timeout=_PATIENCE)
