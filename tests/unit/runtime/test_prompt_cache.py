import threading
from collections.abc import Sequence

import numpy as np
import pytest
from fixtures.exported import write_export

from edgekd.errors import InputError
from edgekd.runtime import Pipeline
from edgekd.runtime.conditions import Conditions
from edgekd.runtime.prompt_cache import PromptCache
from edgekd.serve.loaded import PROMPTS, LoadedModels

TOKENS, WIDTH, POOLED = 3, 8, 5
ROW_BYTES = 4 * (TOKENS * WIDTH + POOLED)


class Encoder:
    """Remembers what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def __call__(self, prompts: Sequence[str]) -> Conditions:
        self.calls.append(tuple(prompts))
        numbers = np.array([len(prompt) for prompt in prompts], np.float32)
        return {
            "encoder_hidden_states": np.tile(numbers[:, None, None], (1, TOKENS, WIDTH)),
            "text_embeds": np.tile(numbers[:, None], (1, POOLED)),
        }


@pytest.fixture
def encode() -> Encoder:
    return Encoder()


def test_the_least_recently_used_leaves(encode):
    kept = PromptCache(2)
    for prompts in ("a", "bb", "a", "ccc", "a", "bb"):
        kept([prompts], encode)
    assert encode.calls == [("a",), ("bb",), ("ccc",), ("bb",)]
    assert kept.held_bytes == 2 * ROW_BYTES


def test_prompts_of_one_call_count_each_and_come_in_their_order(encode):
    kept = PromptCache(3)
    for _ in range(2):
        found = kept(["bb", "a", "bb"], encode)
        np.testing.assert_array_equal(found["text_embeds"][:, 0], [2, 1, 2])
        assert found["encoder_hidden_states"].shape == (3, TOKENS, WIDTH)
    assert encode.calls == [("bb", "a")]
    kept(["a"], encode)  # alone it may be rounded in another way
    kept(["ccc"], encode)
    assert encode.calls == [("bb", "a"), ("a",), ("ccc",)]
    assert kept.held_bytes == 2 * ROW_BYTES
    kept(["1", "22", "333", "4444"], encode)  # more than there is room for
    assert kept.held_bytes == 2 * ROW_BYTES


def test_several_threads_stay_within_the_bound():
    kept, wrong = PromptCache(4), []

    def draw(first: int) -> None:
        for turn in range(300):
            length = 1 + (first + turn) % 7
            found = kept(["x" * length], Encoder())
            if (found["text_embeds"] != length).any() or kept.held_bytes > 4 * ROW_BYTES:
                wrong.append(length)

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert kept.held_bytes == 4 * ROW_BYTES


def test_pictures_are_the_same_and_samplers_share_what_is_kept(tmp_path):
    out = write_export(tmp_path / "a")
    plain, models = Pipeline.open(out), LoadedModels({"a": out}, 1, None)
    for prompts in (["red apple"], ["red apple", "blue car"], ["red apple"], ["blue car"]):
        asked = {"negative_prompt": "grey", "guidance_scale": 3.0, "seed": 5, "steps": 2}
        with models.using("a") as cached:
            found = cached.generate(prompts, **asked)
        np.testing.assert_array_equal(plain.generate(prompts, **asked), found)
    assert cached.prompts.held_bytes > plain.prompts.held_bytes == 0  # nothing, unless asked
    with models.using("a", "EulerDiscreteScheduler") as other:
        assert other.prompts is cached.prompts
    # Stable Diffusion 1.5 and SDXL, as the documentation has it.
    assert PROMPTS * 77 * 768 * 4 < 7.3 * 2**20
    assert PROMPTS * (77 * 2048 + 1280) * 4 < 19.5 * 2**20
    with pytest.raises(InputError, match=r"`prompt_cache >= 0` must hold, but got -1"):
        Pipeline.open(out, prompt_cache=-1)
