import pytest

from edgekd.report import format as fmt


@pytest.mark.parametrize(
    ("shown", "values"),
    [
        # Three significant digits.
        (fmt.significant, {0: "0", 1234.5: "1234", 99.96: "100", 12.345: "12.3", -3.0: "-3.00"}),
        (fmt.significant, {0.012345: "0.0123"}),
        (fmt.count, {12_800_000: "12.8 M", 859_500_000: "860 M", 26 * 10**8: "2.60 G", 7: "7.00"}),
        # Decimal sizes.
        (fmt.size, {2 * 10**8: "200 MB", 15 * 10**8: "1.50 GB", 70_000: "70.0 kB", 100: "100 B"}),
        # The unit changes at a second.
        (fmt.milliseconds, {999: "999 ms", 1234.5: "1.23 s", 0.5: "0.500 ms"}),
    ],
)
def test_figures_as_they_are_shown(shown, values):
    assert {value: shown(value) for value in values} == values


def test_error_has_the_decimals_of_its_value():
    assert fmt.with_error(31.234, 0.4567) == "31.2 ± 0.5"
    assert fmt.with_error(4.8, None) == "4.80"


def test_missing_values_are_a_dash():
    functions = (fmt.count, fmt.size, fmt.milliseconds, fmt.number, fmt.factor, fmt.decibel)
    assert {function(None) for function in functions} == {fmt.MISSING}
    assert fmt.with_error(None, 1.0) == fmt.MISSING
