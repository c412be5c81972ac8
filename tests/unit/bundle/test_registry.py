import pytest

from edgekd.bundle.registry import get_kind, kinds
from edgekd.errors import InputError
from edgekd.export.registry import exporters
from edgekd.target import load_target

WATCH = """
class Watch:
    name = title = "watch"
    runtime = target = "onnx"
    precisions = ("fp32",)
    steps = notes = ()
    def check(self): pass
    def fill(self, folder, contents, progress): (folder / "watch.txt").write_text(contents.name)

VALUE = Watch()
"""


@pytest.mark.parametrize("name", sorted(kinds()))
def test_every_shipped_kind_has_a_target_that_makes_its_exports(name):
    kind = get_kind(name)
    target = load_target(kind.target)
    assert target.runtime == kind.runtime
    assert kind.runtime in exporters()
    assert kind.precisions
    assert kind.steps


def test_a_kind_from_outside(install, exported, tmp_path):
    from edgekd.bundle.build import build
    from edgekd.bundle.contents import read_contents
    from edgekd.progress import Silent

    install("edgekd.bundles", "watch", WATCH)
    made = build(get_kind("watch"), read_contents(exported), tmp_path / "out", Silent())
    assert (made.path / "watch.txt").read_text() == "toy-student"
    assert made.facts.kind == "watch"


def test_unknown_and_broken_kinds(install):
    with pytest.raises(InputError, match=r"`--for` must be one of .*desktop"):
        get_kind("toaster")
    install("edgekd.bundles", "broken", "VALUE = 3")
    with pytest.raises(InputError, match="Kind protocol"):
        get_kind("broken")
    install("edgekd.bundles", "clock", WATCH)
    with pytest.raises(InputError, match="`clock`"):
        get_kind("clock")
