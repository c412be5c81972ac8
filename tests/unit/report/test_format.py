import pytest

from edgekd.report import format as fmt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234.5, "1234"),
        (99.96, "100"),
        (12.345, "12.3"),
        (0.012345, "0.0123"),
        (-3.0, "-3.00"),
    ],
)
def test_three_significant_digits(value, text):
    assert fmt.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_800_000, "12.8 M"), (859_500_000, "860 M"), (2_600_000_000, "2.60 G"), (7, "7.00")],
)
def test_counts(value, text):
    assert fmt.count(value) == text


def test_sizes_are_decimal():
    assert fmt.size(200 * 10**6) == "200 MB"
    assert fmt.size(1_500_000_000) == "1.50 GB"
    assert fmt.size(70_000) == "70.0 kB"
    assert fmt.size(100) == "100 B"


def test_times_change_unit_at_a_second():
    assert fmt.milliseconds(999) == "999 ms"
    assert fmt.milliseconds(1234.5) == "1.23 s"
    assert fmt.milliseconds(0.5) == "0.500 ms"


def test_error_has_the_decimals_of_its_value():
    assert fmt.with_error(31.234, 0.4567) == "31.2 ± 0.5"
    assert fmt.with_error(4.8, None) == "4.80"


def test_missing_values_are_a_dash():
    functions = (fmt.count, fmt.size, fmt.milliseconds, fmt.number, fmt.factor, fmt.decibel)
    assert {function(None) for function in functions} == {fmt.MISSING}
    assert fmt.with_error(None, 1.0) == fmt.MISSING
