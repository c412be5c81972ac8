from pathlib import Path

import pytest
from fixtures.graph_costs import LawfulDevice, one_by_one, starter_configs

import edgekd
from edgekd import files
from edgekd.search.graphs import reference_graph
from edgekd.search.measurements import (
    PROCEDURE,
    Conditions,
    MeasurementStore,
    StoredMeasure,
    conditions_here,
    procedure,
)

HERE = Conditions(
    runtime="onnx",
    precision="fp32",
    threads=1,
    cpu={"model": "a", "instruction_sets": ["avx2"]},
    versions={"onnxruntime": "1.0"},
    procedure="a",
)
OTHERS = {
    "runtime": "openvino",
    "precision": "int8",
    "threads": 2,
    "cpu": {"model": "b", "instruction_sets": ["avx2"]},
    "versions": {"onnxruntime": "1.1"},
    "procedure": "b",
}


@pytest.fixture
def device():
    return LawfulDevice()


def measure(device, folder, conditions=HERE):
    return StoredMeasure(one_by_one(device), MeasurementStore(folder, conditions))


def test_nothing_is_measured_twice(device, tmp_path):
    graphs = [starter_configs().decoder_graph(1), reference_graph()]
    first = measure(device, tmp_path)(graphs)
    assert measure(device, tmp_path)(graphs) == first
    assert device.asked == graphs


@pytest.mark.parametrize("field", OTHERS)
def test_what_was_measured_under_other_conditions_is_measured_again(device, tmp_path, field):
    graph = reference_graph()
    measure(device, tmp_path)([graph])
    other = HERE.model_copy(update={field: OTHERS[field]})
    measure(device, tmp_path, other)([graph])
    assert device.asked == [graph, graph]
    # And the first one is still there.
    measure(device, tmp_path)([graph])
    assert len(device.asked) == 2


def test_another_batch_is_another_graph(device, tmp_path):
    graph = reference_graph()
    measure(device, tmp_path)([graph, graph.model_copy(update={"batch": 2})])
    assert len(device.asked) == 2


@pytest.mark.parametrize("damage", [lambda text: text[:-20], lambda text: "{}", lambda text: ""])
def test_a_damaged_file_is_measured_again(device, tmp_path, damage):
    graph = reference_graph()
    measure(device, tmp_path)([graph])
    (file,) = tmp_path.iterdir()
    file.write_text(damage(file.read_text()))
    measure(device, tmp_path)([graph])
    measure(device, tmp_path)([graph])
    assert device.asked == [graph, graph]


def test_a_file_under_a_foreign_name_is_not_taken(device, tmp_path):
    other = starter_configs().decoder_graph(0.5)
    store = MeasurementStore(tmp_path, HERE)
    measure(device, tmp_path)([reference_graph()])
    (file,) = tmp_path.iterdir()
    file.rename(store.path(other))
    assert store.known(other) is None


def test_what_was_measured_before_an_error_is_kept(tmp_path):
    class Dying(LawfulDevice):
        def __call__(self, graphs):
            if len(self.asked) == 2:
                raise RuntimeError("dead")
            return super().__call__(graphs)

    configs = starter_configs()
    graphs = [configs.decoder_graph(width) for width in (1, 0.75, 0.5)]
    with pytest.raises(RuntimeError, match="dead"):
        measure(Dying(), tmp_path)(graphs)
    device = LawfulDevice()
    measure(device, tmp_path)(graphs)
    assert device.asked == graphs[2:]


def test_conditions_of_this_machine_name_the_runtime():
    found = conditions_here("onnx", "fp32", 1)
    assert "onnxruntime" in found.versions
    assert found.cpu["model"]
    assert found.procedure == procedure("onnx") != procedure("openvino")


@pytest.mark.parametrize("pattern", PROCEDURE)
def test_the_procedure_is_of_files_that_exist(pattern):
    assert list(Path(edgekd.__file__).parent.glob(pattern.format(runtime="openvino")))


def test_measurements_are_of_the_code_that_compiles_and_times(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PACKAGE", tmp_path)
    for name in ("runtime", "export/onnx", "export/openvino"):
        (tmp_path / name).mkdir(parents=True)

    def changed(name):
        (tmp_path / name).write_text(name)
        return procedure.__wrapped__("openvino")

    found = [changed("runtime/openvino_backend.py"), changed("export/openvino/graph.py")]
    assert found[0] != found[1]
    assert changed("runtime/pipeline.py") == changed("export/onnx/graph.py") == found[1]
