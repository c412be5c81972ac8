import signal
import sys

import pytest

from edgekd.cli import app


@pytest.mark.parametrize(
    ("before", "handled"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)], ids=["shell", "nohup"]
)
def test_a_closed_terminal_ends_a_verb_unless_it_was_told_to_live_on(before, handled, monkeypatch):
    handlers = {signal.SIGHUP: before}
    monkeypatch.setattr(signal, "getsignal", handlers.get)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(sys, "argv", ["edgekd", "--version"])
    with pytest.raises(SystemExit):
        app.main()
    assert (handlers[signal.SIGHUP] is handlers[signal.SIGTERM]) == handled
    with pytest.raises(SystemExit, match="143"):
        handlers[signal.SIGTERM](signal.SIGTERM, None)
