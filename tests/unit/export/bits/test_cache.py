import math

from edgekd.export.bits.cache import Noise, NoiseMeasurements


def test_measurements_are_found_again(tmp_path):
    first = NoiseMeasurements(tmp_path, {"source": "a"})
    first.add({"unet": {"w": 4}}, Noise(1e-3, 2e-3))
    first.add({"unet": {"w": 2}}, Noise(math.inf, math.inf))
    again = NoiseMeasurements(tmp_path, {"source": "a"})
    assert again.get({"unet": {"w": 4}}) == Noise(1e-3, 2e-3)
    assert again.get({"unet": {"w": 2}}) == Noise(math.inf, math.inf)
    assert again.get({"unet": {"w": 6}}) is None


def test_other_circumstances_have_other_measurements(tmp_path):
    NoiseMeasurements(tmp_path, {"source": "a"}).add(1, Noise(1.0, 1.0))
    assert NoiseMeasurements(tmp_path, {"source": "b"}).get(1) is None


def test_torn_line_of_a_killed_process_is_cut_off(tmp_path):
    first = NoiseMeasurements(tmp_path, "x")
    first.add(1, Noise(1.0, 1.0))
    with open(first.path, "a", encoding="utf-8") as stream:
        stream.write('{"key": "2", "pict')
    again = NoiseMeasurements(tmp_path, "x")
    assert len(again) == 1
    again.add(3, Noise(3.0, 3.0))
    assert NoiseMeasurements(tmp_path, "x").get(3) == Noise(3.0, 3.0)
