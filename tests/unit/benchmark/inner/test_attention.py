import numpy as np
import pytest

from edgekd.benchmark.inner.attention import MAX_WORDS, word_maps, word_positions
from edgekd.diffusion.components import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(starter_teacher):
    return load_tokenizer(starter_teacher / "tokenizer")


def spelled(tokenizer, caption: str, places: list[int]) -> str:
    ids = tokenizer(caption, padding="max_length", truncation=True).input_ids
    return tokenizer.decode([ids[place] for place in places]).replace(" ", "")


def test_words_are_found_at_their_tokens(tokenizer):
    caption = "A spaghettiesque dragon, with the (red) hat and noto style"
    found = word_positions(tokenizer, caption)
    assert list(found) == ["spaghettiesque", "dragon", "red", "hat", "noto", "style"]
    assert len(found["spaghettiesque"]) > 1
    for word, places in found.items():
        assert spelled(tokenizer, caption, places) == word


def test_words_that_are_cut_off_are_left_out(tokenizer):
    numbers = " ".join(f"word{number}" for number in range(60))
    found = word_positions(tokenizer, numbers)
    assert found
    assert max(max(places) for places in found.values()) <= tokenizer.model_max_length - 2
    assert "word59" not in found


def test_captions_that_are_cut_otherwise_have_no_words(tokenizer):
    class Merging:
        model_max_length = 32

        def __call__(self, text: str, add_special_tokens: bool):
            del add_special_tokens
            return type("Found", (), {"input_ids": [len(text)]})

        def convert_ids_to_tokens(self, ids):
            return [f"t{number}</w>" for number in ids]

    assert word_positions(Merging(), "cat") == {"cat": [1]}
    assert word_positions(Merging(), "cat hat") == {}


def test_a_map_is_the_mean_over_a_words_tokens_with_maximum_1(tokenizer):
    caption = "cat hat bag sun"
    places = word_positions(tokenizer, caption)
    weights = np.zeros((16, 32), np.float32)
    weights[5, places["hat"]] = 0.4
    weights[6, places["hat"]] = 0.1
    weights[:, places["sun"]] = 1
    found = word_maps(tokenizer, caption, weights)
    assert list(found) == ["cat", "hat", "bag"]
    assert len(found) == MAX_WORDS
    expected = np.zeros((4, 4))
    expected[1, 1], expected[1, 2] = 1, 0.25
    np.testing.assert_array_equal(found["hat"], expected)
    assert not found["cat"].any()


@pytest.mark.parametrize(("side", "shown"), [(8, 8), (32, 16), (24, 12), (16, 16)])
def test_large_maps_are_averaged(tokenizer, side, shown):
    weights = np.zeros((side * side, 32), np.float32)
    weights[0] = 1
    picture = word_maps(tokenizer, "cat", weights)["cat"]
    assert picture.shape == (shown, shown)
    assert (picture[0, 0], picture.sum()) == (1, 1)
