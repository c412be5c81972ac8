import pickle

import pytest
import torch
from safetensors.torch import save_file

from edgekd.errors import InputError
from edgekd.metrics.extractors.dinov2 import DinoV2Extractor
from edgekd.metrics.extractors.inception import INCEPTION, InceptionExtractor
from edgekd.metrics.extractors.weights import hash_weights, read_state
from edgekd.metrics.metric import Weights

RAN = []


class Payload:
    """What a pickle may do when it is loaded."""

    def __reduce__(self):
        return RAN.append, ("loaded",)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_tensors_are_read_from_either_format(tmp_path, suffix):
    path, state = tmp_path / f"weights{suffix}", {"a.weight": torch.arange(3.0)}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert torch.equal(read_state(path, "--inception")["a.weight"], state["a.weight"])


@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_a_pickled_object_is_refused_and_not_run(tmp_path, save):
    path = tmp_path / "weights.pth"
    if save == "torch":
        torch.save({"a": torch.zeros(1), "b": Payload()}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(), protocol=2))
    RAN.clear()
    with pytest.raises(InputError, match="never loaded"):
        read_state(path, "--inception")
    assert RAN == []


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04"])
def test_damaged_files_are_refused(tmp_path, content):
    for name in ("weights.pth", "weights.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match="`--inception` must be a file of tensors"):
            read_state(path, "--inception")


def test_other_things_than_a_state_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(InputError, match="list"):
        read_state(path, "--inception")


def test_hashes_are_of_the_content(tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    a, b, c = (hash_weights(tmp_path / name, "--clip") for name in "abc")
    assert a == b != c
    with pytest.raises(InputError, match="`--clip` must exist"):
        hash_weights(tmp_path / "none", "--clip")


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, path)
    extractor = INCEPTION.open(Weights(inception=path))
    assert extractor.name.startswith("inception_v3-tf_bilinear299-")
    with pytest.raises(InputError, match="must fit torch-fidelity's Inception"):
        extractor.network  # noqa: B018
    assert INCEPTION.open(Weights()) is None


def test_a_missing_package_names_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for extractor in (InceptionExtractor, DinoV2Extractor):
        with pytest.raises(InputError, match=r"pip install 'edgekd\[fid\]'"):
            extractor(tmp_path)


def test_a_dinov2_folder_is_checked_before_it_is_loaded(tmp_path, tiny_dinov2):
    with pytest.raises(InputError, match=r"must hold config\.json"):
        DinoV2Extractor(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="vit"):
        DinoV2Extractor(tmp_path)
    assert DinoV2Extractor(tiny_dinov2).name.startswith("dinov2-tf_bilinear224-")
