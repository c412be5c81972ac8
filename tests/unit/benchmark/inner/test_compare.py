import numpy as np
import pytest

from edgekd.benchmark.inner.compare import compare, shown_blocks
from edgekd.benchmark.inner.question import Pairing, Seen, WordMap
from edgekd.errors import InputError
from edgekd.student.pairs import BlockPair

NAMES = ("teacher", "student")
PAIRING = Pairing(
    teacher_blocks=("down_blocks.0", "mid_block", "up_blocks.0"),
    student_blocks=("down_blocks.0", "up_blocks.0"),
    blocks=(
        BlockPair("down_blocks.0", "down_blocks.0", (8, 8)),
        BlockPair("up_blocks.0", "up_blocks.0", (8, 4)),
    ),
    attention=("a.attn2", "b.attn2"),
)
WIDTHS = {"down_blocks.0": 8, "mid_block": 8, "up_blocks.0": 8}


def features(widths: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        point: random.normal(size=(2, 26, width)).astype(np.float32)
        for point, width in widths.items()
    }


def word(point: str, name: str, value: float) -> WordMap:
    return WordMap(point, "a cat", name, np.full((2, 2), value))


@pytest.fixture
def teacher() -> Seen:
    return Seen(features(WIDTHS, 0), (word("a.attn2", "cat", 1.0), word("other", "cat", 0.5)))


def test_figures_are_those_of_each_block_and_timestep(teacher):
    own = dict(teacher.features)
    # Equal but for rotation at the first timestep, noise at the second; narrower on the way up.
    turned = np.stack([own["down_blocks.0"][0][:, ::-1], features(WIDTHS, 1)["mid_block"][1]])
    student = Seen(
        {"down_blocks.0": turned, "up_blocks.0": own["up_blocks.0"][:, :, :4]},
        (word("b.attn2", "cat", 0.25), word("b.attn2", "hat", 1.0)),
    )
    found = compare(NAMES, (250, 750), PAIRING, (teacher, student))
    first, second = found.agreement[:2]
    assert [(one.block, one.timestep) for one in found.agreement[:2]] == [
        ("down_blocks.0", 250),
        ("down_blocks.0", 750),
    ]
    assert (first.cka, first.knn_overlap, first.procrustes) == pytest.approx((1, 1, 0))
    assert second.cka < 0.6
    assert (found.samples, found.neighbours) == (26, 4)
    # At the middle timestep, the second of two.
    assert np.array(found.cross).shape == (3, 2)
    assert found.cross[0][0] == second.cka
    down, up = found.blocks
    assert [one.method for one in down.projections] == ["t-SNE", "PCA"]
    assert down.projections[0].perplexity == 17
    assert "4 channels turned onto the teacher's 8" in up.projections[1].method
    (attention,) = found.attention
    assert (attention.block, attention.timestep) == ("a.attn2 (student's b.attn2)", 750)
    assert (attention.word, attention.teacher[0][0], attention.student[0][0]) == ("cat", 1, 0.25)


def test_a_dead_block_is_refused(teacher):
    dead = {"down_blocks.0": np.ones((2, 26, 8), np.float32), "up_blocks.0": np.ones((2, 26, 4))}
    with pytest.raises(InputError, match="vary"):
        compare(NAMES, (250, 750), PAIRING, (teacher, Seen(dead, ())))


def test_three_places_are_shown_of_many():
    points = ["down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0", "up_blocks.1"]
    pairs = [BlockPair(point, point, (8, 8)) for point in points]
    assert [one.teacher for one in shown_blocks(pairs)] == [points[0], points[2], points[4]]
    assert len(shown_blocks([pairs[0]])) == 1
