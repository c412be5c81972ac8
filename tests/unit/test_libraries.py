import gc
import logging

import pytest

from edgekd import libraries


def test_packages_that_diffusers_imports_warn_of_nothing():
    assert libraries.diffusers.utils.logging.get_verbosity() == logging.ERROR
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    assert not logger.isEnabledFor(logging.WARNING)


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_imports_where_it_was_before(enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with libraries._uncollected():
            within = gc.isenabled()
        assert (within, gc.isenabled()) == (False, enabled)
    finally:
        (gc.enable if before else gc.disable)()
