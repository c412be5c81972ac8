"""What a pipeline keeps of the prompts that it has encoded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from edgekd.errors import InputError
from edgekd.runtime.conditions import Conditions, Encode


class PromptCache:
    """Conditions of the prompts that were used last. Several threads may share one.

    The prompts of one call are kept together: encoders may round a row in another way beside
    others, and a picture must not depend on what was drawn before it.

    Args:
        room: how many prompts are kept; 0: none. Each takes 4 bytes for each number of its
            embeddings, [L,D] and [P].

    Raises:
        InputError: less than none.
    """

    def __init__(self, room: int = 0) -> None:
        if room < 0:
            raise InputError("`prompt_cache >= 0` must hold", str(room))
        self._room = room
        self._kept: OrderedDict[tuple[str, ...], Conditions] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, prompts: Sequence[str], encode: Encode) -> Conditions:
        """What `encode` makes of the prompts: kept, or else called for each of them once."""
        distinct = tuple(dict.fromkeys(prompts))
        with self._lock:
            found = self._kept.get(distinct)
            if found is not None:
                self._kept.move_to_end(distinct)
        if found is None:
            found = encode(distinct)
            self._keep(distinct, found)
        rows = [distinct.index(prompt) for prompt in prompts]
        return {name: values[rows] for name, values in found.items()}  # copies

    def _keep(self, prompts: tuple[str, ...], conditions: Conditions) -> None:
        if len(prompts) > self._room:
            return
        with self._lock:
            self._kept[prompts] = conditions
            while sum(map(len, self._kept)) > self._room:
                self._kept.popitem(last=False)

    @property
    def held_bytes(self) -> int:
        """Of all that is kept."""
        with self._lock:
            return sum(values.nbytes for one in self._kept.values() for values in one.values())
