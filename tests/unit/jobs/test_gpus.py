import pytest

from edgekd.errors import InputError
from edgekd.jobs.gpus import GPUS, find_gpu


def test_a_price_of_ones_own_takes_the_tables_place():
    assert find_gpu("h100", None) == GPUS["h100"]
    cheaper = find_gpu("h100", 0.5)
    assert (cheaper.usd_per_hour, cheaper.tflops) == (0.5, GPUS["h100"].tflops)


@pytest.mark.parametrize(
    ("name", "price", "said"),
    [
        ("toaster", None, "`--gpu` must be one of l4, .* but got 'toaster'"),
        ("h100", 0.0, "above 0, but got 0"),
        ("h100", float("nan"), "above 0, but got nan"),
        ("h100", float("inf"), "above 0, but got inf"),
    ],
)
def test_unknown_gpus_and_prices_are_refused(name, price, said):
    with pytest.raises(InputError, match=said):
        find_gpu(name, price)
