from pathlib import Path

import pytest

from edgekd.devices.plain_text import without_paths


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("`0/unet/model.onnx` must be a model", "`0/unet/model.onnx` must be a model"),
        ("from /some/where/1/unet/model.onnx failed", "from model.onnx failed"),
        (r"open C:\Users\ada\x\model.onnx: no", "open model.onnx: no"),
        (r"open \\server\share\model.onnx", "open model.onnx"),
        ("C:/Users/ada/model.onnx", "model.onnx"),
        ('"/home/ada/a b.json"', '"a b.json"'),
        ("1/2 of the files, 3 img/s", "1/2 of the files, 3 img/s"),
        ("(/opt/lib/x.so)", "(x.so)"),
    ],
)
def test_absolute_paths_become_names(text, plain):
    assert without_paths(text) == plain


def test_a_folder_with_spaces_goes_whole():
    folder = Path("/home/ada/its files/work")
    text = f"open {folder / '0' / 'unet' / 'model.onnx'} in {folder}"
    assert without_paths(text, folder) == "open 0/unet/model.onnx in "


def test_a_message_is_bounded():
    assert len(without_paths("x" * 10**5)) == 1000
