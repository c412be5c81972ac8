from pathlib import Path

import pytest

from edgekd.benchmark.options import (
    SuiteOptions,
    exports_with_options,
    parse_model,
    parse_targets,
    with_options,
)
from edgekd.benchmark.suite import ExportSuite, Suite
from edgekd.errors import InputError

SUITE = Suite(name="s", models={"own": Path("a")}, targets={"onnx": ["int8"]}, skip=["kid"])


def test_a_model_is_called_as_the_user_says_or_as_its_folder(tmp_path, monkeypatch):
    (tmp_path / "a=b").mkdir()
    (tmp_path / "sd15.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert parse_model("small=runs/x") == ("small", Path("runs/x"))
    assert parse_model("runs/few=2") == ("few=2", Path("runs/few=2"))
    assert parse_model("a=b") == ("a=b", Path("a=b"))
    assert parse_model("sd15.safetensors")[0] == "sd15"
    assert parse_model(".") == (tmp_path.name, Path())
    with pytest.raises(InputError, match="NAME=DIR, but got 'small='"):
        parse_model("small=")


def test_targets_are_read_with_their_precisions():
    assert parse_targets(["onnx:fp32,int8", "openvino"]) == {
        "onnx": ["fp32", "int8"],
        "openvino": [],
    }
    for wrong in (["onnx:"], [":fp32"], ["onnx:fp32,,int8"], ["onnx", "onnx:fp32"]):
        with pytest.raises(InputError, match="`--targets` takes"):
            parse_targets(wrong)


def test_options_add_models_and_skipped_metrics_and_replace_targets(tmp_path):
    options = SuiteOptions(models=["new=b"], targets=["openvino:fp16"], skip=["fd"], clip=tmp_path)
    asked = with_options(SUITE, options)
    assert asked.models == {"own": Path("a"), "new": Path("b")}
    assert asked.targets == {"openvino": ["fp16"]}
    assert asked.skip == ["kid", "fd"]
    assert (asked.weights.clip, asked.weights.inception) == (tmp_path, None)
    assert with_options(SUITE, SuiteOptions()) == SUITE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SuiteOptions(models=["a/x", "b/x"]), "different names, but got `x` twice"),
        (
            SuiteOptions(models=["teacher=b"]),
            "another name, NAME=DIR; --targets exports",
        ),
        (SuiteOptions(models=["a/b=c"]), "models.b=c"),
        (SuiteOptions(devices=["a phone"]), "should match pattern"),
        (SuiteOptions(devices=["pi", "pi"]), "must differ"),
        (SuiteOptions(inception=Path("no-such-file")), "`--inception`"),
    ],
    ids=str,
)
def test_what_no_suite_may_say_no_option_may(options, message):
    with pytest.raises(InputError, match=message) as error:
        with_options(SUITE, options)
    assert "\n" not in str(error.value)


def test_a_suite_of_exports_takes_targets_only():
    suite = ExportSuite(kind="export", name="e", targets={"onnx": []}, prompts=["a cat"])
    asked = exports_with_options(suite, SuiteOptions(targets=["openvino:int8"]))
    assert asked.targets == {"openvino": ["int8"]}
    with pytest.raises(InputError, match="its own pipeline"):
        exports_with_options(suite, SuiteOptions(models=["x"], targets=["onnx"]))
