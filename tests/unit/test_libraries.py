import logging

from edgekd import libraries


def test_packages_that_diffusers_imports_warn_of_nothing():
    assert libraries.diffusers.utils.logging.get_verbosity() == logging.ERROR
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    assert not logger.isEnabledFor(logging.WARNING)
