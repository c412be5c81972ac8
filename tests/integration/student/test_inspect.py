"""A published architecture needs no torch."""

import time


def test_a_published_architecture_needs_no_torch_and_little_time(run_python):
    script = (
        "import sys; from edgekd.student.inspect import *; inspect_components(arch='sdxl')\n"
        "assert 'torch' not in sys.modules"
    )
    started = time.monotonic()
    assert run_python(script).returncode == 0
    assert time.monotonic() - started < 10
