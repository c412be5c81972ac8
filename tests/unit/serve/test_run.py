import pytest

from edgekd.errors import InputError
from edgekd.serve.run import bind


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "192.0.2.1"])
def test_an_address_that_cannot_be_bound(host):
    with pytest.raises(InputError, match="the address must be free to listen on, but got"):
        bind(host, 0)
