"""Quantities of resources: ``8``, ``500m``, ``64Gi``."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"^([+-]?\d*\.?\d+|\d+\.)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?$")
_SUFFIX = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
RULE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def amount(text: str | float) -> Decimal:
    """Return the number that a quantity means.

    Raises:
        ValueError: it is none.

    """
    found = _QUANTITY.match(str(text))
    if not found:
        raise ValueError(RULE)
    number, suffix, power = found.groups()
    scale = Decimal(10) ** int(power) if power else _SUFFIX[suffix or ""]
    return Decimal(number) * scale


def plain(number: Decimal) -> str:
    """Return a quantity in its shortest usual form."""
    if number == number.to_integral():
        return str(int(number))
    return f"{int(number * 1000)}m"
