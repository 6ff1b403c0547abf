"""Numbers in words for people: counts, bytes, times, scores and signed weights."""

import math
from collections.abc import Mapping
from typing import Any


def count(number: int) -> str:
    """Return ``1234567`` as ``1,234,567``."""
    return f"{number:,}"


def counted(number: int, thing: str, things: str = "") -> str:
    """Return ``1 input``, ``12 inputs``, ``no inputs``; ``things`` is the plural where it is not made by s."""
    return f"{count(number) if number else 'no'} {thing if number == 1 else things or thing + 's'}"


def initial(words: str) -> str:
    """Return the words with a capital first letter; the rest stays as it is."""
    return words[:1].upper() + words[1:]


def size(number: int) -> str:
    """Return bytes in decimal units: ``512 bytes``, ``2.9 kB``, ``1.2 GB``."""
    if number < 1000:
        return f"{number} byte{'' if number == 1 else 's'}"
    power = min(int(math.log10(number) / 3), 4)
    value = number / 1000**power
    if value >= 999.5 and power < 4:
        power, value = power + 1, 1.0
    return f"{value:.{0 if value >= 99.5 else 1}f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def duration(seconds: float) -> str:
    """Return ``85 ms``, ``3.2 s``, ``4 min 5 s``, ``2 h 3 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.5:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def score(value: float, name: str) -> str:
    """Return an accuracy or a share in percent, any other score to four digits; ``not measured`` for NaN."""
    if math.isnan(value):
        return "not measured"
    return f"{100 * value:.2f} %" if is_share(name) else f"{value:.4g}"


def is_share(name: str) -> bool:
    """Say whether a score of this name is printed in percent."""
    return "accuracy" in name.lower() or "share" in name.lower()


def signed(weight: float) -> str:
    """Return a weight with its sign, three digits: ``+0.53``, ``−1.2e-05``."""
    return ("−" if weight < 0 else "+") + f"{abs(weight):.3g}"


def plain(value: Any) -> str:
    """Return a setting as it is printed."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return count(value)
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ", ".join(plain(v) for v in value)
    return str(value)


def settings(values: Mapping[str, Any]) -> str:
    """Return settings by name as they are printed: ``rate 0.01, power 5``."""
    return ", ".join(f"{name.replace('_', ' ')} {plain(value)}" for name, value in values.items())
