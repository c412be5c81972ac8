import pytest

from edgekd.errors import InputError
from edgekd.target import list_targets, load_target, load_target_file

GOOD = """
name: phone
description: a phone
runtime: onnx
precisions: [fp32]
deploy: fp32
schedulers: [DDIMScheduler]
"""


def test_shipped_targets_load():
    assert [target.name for target in list_targets()] == sorted(t.name for t in list_targets())
    assert load_target("onnx").deploy in load_target("onnx").precisions


def test_a_target_folder_works_by_path(tmp_path):
    (tmp_path / "target.yaml").write_text(GOOD)
    assert load_target(str(tmp_path)).name == "phone"


def test_unknown_target_lists_the_known(tmp_path):
    with pytest.raises(InputError, match="onnx"):
        load_target(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("deploy: fp32", "deploy: int8", "must be one of `precisions`"),
        ("runtime: onnx\n", "", "`runtime`"),
        ("name: phone", "name: ../phone", "`name`"),
        ("precisions: [fp32]", "precisions: []", "`precisions`"),
        ("description: a phone", "description: a phone\nspeed: 3", "unknown key `speed`"),
    ],
)
def test_bad_target(tmp_path, old, new, said):
    path = tmp_path / "target.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=said):
        load_target_file(path)
