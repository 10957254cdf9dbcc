"""YAML as it is read and written here: version 1.2's plain values.

Reading has limits that a hostile text cannot pass. What is written is read alike by 1.1 and by 1.2.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import ComposerError

TAG = "tag:yaml.org,2002:"
MAX_DEPTH = 40
"""Composing recurs: deeper texts would exhaust the interpreter's stack."""


class Loader(yaml.SafeLoader):
    """YAML 1.2's core values, and no deeper than a person writes.

    PyYAML reads YAML 1.1, in which 1:2 is sixty-two, `on` is true and a date is no text. Nesting is
    limited while composing, for that recurs.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node, unless it is nested too deep."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._depth > MAX_DEPTH:
            raise ComposerError(problem="nested too deep", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def tag_of(self, text: str) -> str:
        """Return the tag of a plain scalar."""
        tag: str = self.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return tag

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """Return an integer; a leading 0 alone does not make it octal."""
        bases = {"0x": 16, "0o": 8}
        return int(node.value, bases.get(node.value[:2], 10))


class Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text.

    PyYAML alone quotes by 1.1, which has no number 1e5: it would come back as one.
    """

    # Copied, as PyYAML does: its own lists are shared by every dumper of the process.
    yaml_implicit_resolvers = {
        first: list(rules) for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    # Longer ones are read as a float, which limits what they cost.
    ("int", r"[-+]?[0-9]{1,18}|0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
):
    _rule = re.compile(rf"^(?:{_pattern})\Z")
    Loader.add_implicit_resolver(TAG + _kind, _rule, _first)
    Dumper.add_implicit_resolver(TAG + _kind, _rule, _first)
Loader.add_constructor(TAG + "int", Loader.construct_integer)


def write_document(data: Any) -> str:
    """Return plain values as YAML, keys in their order, that is read back as the same values."""
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True)
