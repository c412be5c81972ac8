import logging

from edgekd.serve.figures import Figures
from edgekd.serve.messages import Drawing

DRAWING = Drawing("starter", "red apple", None, 0, 2, 1.0, None, 64, 64)


def test_a_cold_start_is_told_once(caplog):
    figures = Figures()
    figures.listening(2.0)
    with caplog.at_level(logging.INFO, logger="edgekd.serve"):
        figures.finished(DRAWING, 100.0, 0.5, 0.25)  # a client that came late costs nothing
        figures.finished(DRAWING, 0.0, 9.0, 9.0)
    (record,) = caplog.records
    assert record.getMessage() == "first picture"
    assert record.fields == {"model": "starter", "cold_start_seconds": 2.5}
    text = figures.text().decode()
    assert "edgekd_cold_start_seconds 2.5" in text
    assert 'edgekd_wait_seconds_sum{model="starter"} 100.0' in text
    assert 'edgekd_service_seconds_sum{model="starter"} 9.5' in text
    assert figures.recent.median(DRAWING) == 4.625
