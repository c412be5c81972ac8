from pathlib import Path

from edgekd.artifacts import StudentCheckpoint
from edgekd.benchmark.suite import Suite, Variant
from edgekd.benchmark.variants import train_variants
from edgekd.progress import Silent


def test_every_variant_is_trained_once_in_order_and_becomes_a_row(tmp_path: Path) -> None:
    trained: list[str] = []

    def train(variant: Variant) -> StudentCheckpoint:
        trained.append(variant.name)
        folder = tmp_path / variant.name
        return StudentCheckpoint(folder / "student", variant.name, folder / "metrics.jsonl")

    suite = Suite(name="s", variants=[Variant(name="kd"), Variant(name="scratch")])
    subjects, curves = train_variants(suite, train, Silent())
    assert trained == ["kd", "scratch"]
    assert [(s.name, s.role, s.runtime, s.path) for s in subjects] == [
        ("kd", "student", "torch", tmp_path / "kd" / "student"),
        ("scratch", "student", "torch", tmp_path / "scratch" / "student"),
    ]
    assert curves == {name: tmp_path / name / "metrics.jsonl" for name in trained}
