"""Figures as people read them: three significant digits and a unit."""

from __future__ import annotations

from collections.abc import Callable

from edgekd.metrics.metric import Descriptor, Format

MISSING = "\N{EM DASH}"
_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def significant(value: float, digits: int = 3) -> str:
    """`1234.5` -> `1234`, `12.345` -> `12.3`, `0.012345` -> `0.0123`; no exponents above 1e-4."""
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def count(value: float | None) -> str:
    """`12_800_000` -> `12.8 M`."""
    if value is None:
        return MISSING
    for size, unit in _LARGE:
        if abs(value) >= size:
            return f"{significant(value / size)} {unit}"
    return significant(value)


def size(value: float | None) -> str:
    """Bytes in decimal units, as the command line prints them: `209715200` -> `210 MB`."""
    if value is None:
        return MISSING
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= unit:
            return f"{significant(value / unit)} {name}"
    return f"{value:.0f} B"


def milliseconds(value: float | None) -> str:
    """`1234.5` -> `1.23 s`, `12.345` -> `12.3 ms`."""
    if value is None:
        return MISSING
    if value >= 1000:
        return f"{significant(value / 1000)} s"
    return f"{significant(value)} ms"


def number(value: float | None) -> str:
    return MISSING if value is None else significant(value)


def factor(value: float | None) -> str:
    """A ratio: `0.5812` -> `0.58x` with a real multiplication sign."""
    return MISSING if value is None else f"{value:.2f}\N{MULTIPLICATION SIGN}"


def percent(ratio: float) -> str:
    """`0.9213` -> `92 %`; shares below a tenth keep a decimal."""
    return f"{100 * ratio:.{0 if abs(ratio) >= 0.1 else 1}f} %"


def times(ratio: float) -> str:
    """A ratio within a sentence: `21.34` -> `21`, `1.6180` -> `1.62`, `2.0` -> `2`."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}".rstrip("0").rstrip(".")


def with_error(value: float | None, error: float | None) -> str:
    """`31.2 ± 0.4`: the error's precision follows the value's."""
    if value is None:
        return MISSING
    text = significant(value)
    if error is None:
        return text
    decimals = len(text.partition(".")[2])
    return f"{text} ± {error:.{decimals}f}"


def decibel(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f} dB"


_FORMATS: dict[Format, Callable[[float | None], str]] = {
    "number": number,
    "count": count,
    "bytes": size,
    "milliseconds": milliseconds,
}


def head(metric: Descriptor) -> str:
    """Head of a metric's column: `1000 KID ↓`. Where fewer is plainly better there is no arrow."""
    scale = f"{metric.scale:g} " if metric.scale != 1 else ""
    arrow = {"lower": " ↓", "higher": " ↑"}[metric.direction]
    return f"{scale}{metric.label}{arrow if metric.source == 'pictures' else ''}"


def value_text(metric: Descriptor, value: float | None, error: float | None = None) -> str:
    """A metric's value as people read it, with its error where it has one."""
    if value is not None and error is not None:
        return with_error(metric.scale * value, metric.scale * error)
    return _FORMATS[metric.format](None if value is None else metric.scale * value)


def range_text(metric: Descriptor, low: float, high: float) -> str:
    """Both ends of an interval: `118 to 124`."""
    return f"{value_text(metric, low)} to {value_text(metric, high)}"
