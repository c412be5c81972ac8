import base64
import hashlib
import json
import re
import shutil

import pytest

from edgekd import resources
from edgekd.bundle.contents import read_contents
from edgekd.bundle.kind import template
from edgekd.bundle.model import MODEL_FILE, copy_model
from edgekd.bundle.scripted import SAMPLERS, check_drawable
from edgekd.bundle.web import cut_model, make_probe
from edgekd.errors import InputError
from edgekd.runtime import Pipeline

CORE = resources.data_root() / "export_targets" / "web" / "core" / "src"


def test_chunks_put_together_are_the_files(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("edgekd.bundle.web._CHUNK_BYTES", 1000)
    facts = copy_model(read_contents(exported), tmp_path / "model")
    whole = {path: (tmp_path / "model" / path).read_bytes() for path in facts.files}
    cut = cut_model(tmp_path / "model")
    assert cut.keys() == whole.keys()
    assert len(cut["tokenizer/vocab.json"]) > 10
    for path, names in cut.items():
        pieces = [(tmp_path / "model" / "chunks" / name).read_bytes() for name in names]
        assert [hashlib.sha256(piece).hexdigest() for piece in pieces] == names
        assert b"".join(pieces) == whole[path]
        assert max(map(len, pieces)) <= 1000
    kept = {path.name for path in (tmp_path / "model").iterdir()}
    assert kept == {MODEL_FILE, "chunks"}


def test_the_probe_is_pythons_picture_of_one_step(exported, monkeypatch):
    picture = Pipeline.open(exported, threads=1).generate(["red apple"], steps=1, seed=0)[0]
    probe = make_probe(read_contents(exported))
    assert probe.stride == 1
    assert base64.b64decode(probe.pixels) == picture.tobytes()
    assert probe.floor_db == 35
    monkeypatch.setattr("edgekd.bundle.web._PROBE_PIXELS", 500)
    sparse = make_probe(read_contents(exported))
    assert sparse.stride == 3
    assert base64.b64decode(sparse.pixels) == picture[::3, ::3].tobytes()


def test_samplers_are_those_of_the_core():
    text = (CORE / "scheduler_config.ts").read_text(encoding="utf-8")
    classes = text[text.index("const CLASSES") : text.index("export type SamplerName")]
    assert set(re.findall(r"^  (\w+): \{", classes, re.MULTILINE)) == set(SAMPLERS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"_class_name": "UniPCMultistepScheduler"}, "got UniPCMultistepScheduler"),
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, "use_karras"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}, "solver_order"),
    ],
)
def test_a_scheduler_that_the_core_does_not_know_is_refused(exported, tmp_path, changes, said):
    folder = tmp_path / "export"
    shutil.copytree(exported, folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(InputError, match=said):
        check_drawable(read_contents(folder))
    check_drawable(read_contents(exported))


def test_the_electron_sample_does_not_wait_for_electron_before_it_has_run():
    """Electron becomes ready once the module has run: a wait at its top level never ends."""
    text = (template("node") / "electron" / "main.mjs").read_text()
    assert not re.search(r"^(const .*= )?await ", text, re.MULTILINE)
    assert "app.whenReady().then(" in text
