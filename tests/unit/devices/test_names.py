import pytest

from edgekd.devices.names import problem_of_files


def test_the_files_of_exports_are_plain():
    names = ["manifest.json", "tokenizer/merges.txt", "unet/model.onnx", "unet/model.onnx.data"]
    names += ["unet/model.onnx_data", "unet/openvino_model.xml", "unet/openvino_model.bin"]
    names += ["unet/model.mlpackage/Data/com.apple.CoreML/weights/weight.bin", "u/model.ort"]
    assert problem_of_files([*names, "inputs.safetensors", "unet/Manifest.json"]) is None


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd.json",
        "/etc/passwd.json",
        "unet/../../x.json",
        "unet//x.json",
        "./x.json",
        "unet\\..\\x.json",
        "C:x.json",
        "C:/x.json",
        "CON.json",
        "aux/x.json",
        "x.json ",
        "x.json.",
        ".hidden.json",
        "a\x00.json",
        "a\n.json",
        "é.json",
        "",
        "a/" * 8 + "x.json",
        "x" * 120 + ".json",
        "stream.json:zone",
    ],
)
def test_other_paths_are_refused(path):
    assert "must be" in str(problem_of_files([path]))


@pytest.mark.parametrize("name", ["x.pkl", "x.pt", "x.so", "x.dll", "x.py", "x.npy", "x.zip", "x"])
def test_nothing_that_could_be_executed_or_unpacked_is_taken(name):
    assert "a file must be one of" in str(problem_of_files([name]))


def test_names_are_told_apart_everywhere():
    assert "twice" in str(problem_of_files(["unet/a.json", "UNET/A.json"]))
    assert "as both" in str(problem_of_files(["a.json", "a.json/b.json"]))
