import pytest

from edgekd.errors import InputError
from edgekd.export.isolate import make_worker
from edgekd.export.onnx.exporter import OnnxExporter

SMALL = {"unet": 10_000_000, "vae": 1_000_000}


def test_small_pipelines_stay_and_large_or_limited_ones_move_to_children():
    exporter = OnnxExporter()
    assert not make_worker(exporter, SMALL, None).isolated
    assert make_worker(exporter, {"unet": 600_000_000}, None).isolated
    assert make_worker(exporter, SMALL, 64 * 10**9).isolated


def test_limit_below_what_any_export_needs_is_refused_with_the_values():
    with pytest.raises(InputError, match=r"0\.02 GB for weights.*but got 0\.03 GB") as error:
        make_worker(OnnxExporter(), SMALL, 30_000_000)
    assert error.value.exit_code == 2
    with pytest.raises(InputError, match=r"12\.00 GB for weights"):
        make_worker(
            OnnxExporter(), {"unet": 5 * 10**9, "text_encoder": 4 * 10**9, "vae": 3 * 10**9}, 10**10
        )
