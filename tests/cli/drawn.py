"""Pictures read back: what is drawn bears its figures."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ET.Element:
    """Return the picture's outermost element."""
    return ET.fromstring(text)  # noqa: S314 - drawn by ourselves


def figures(root: ET.Element, level: str) -> Counter[str]:
    """Return the sums of what the cells of one level bear."""
    found = Counter[str]()
    for group in root.iter(f"{SVG}g"):
        if group.get("class") == f"of-{level}":
            found["boxes"] += 1
            found.update(
                {key: int(group.get(f"data-{key}", "")) for key in ("gpus", "free", "held")}
            )
    return found
