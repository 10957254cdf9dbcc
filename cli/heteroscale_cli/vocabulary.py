"""The words of the command line: kinds with their short names, and output formats.

Without gRPC or protobuf, so that help and completion are quick.
"""

from __future__ import annotations

from enum import StrEnum

from heteroscale_cli.errors import usage


class Kind(StrEnum):
    """What can be listed; the value is the name in full."""

    SERVICE = "services"
    INSTANCE = "instances"
    NODE = "nodes"
    GROUP = "groups"
    CLUSTER = "clusters"
    DECISION = "decisions"


SHORT = {
    Kind.SERVICE: "svc",
    Kind.INSTANCE: "inst",
    Kind.NODE: "no",
    Kind.GROUP: "grp",
    Kind.CLUSTER: "clu",
    Kind.DECISION: "dec",
}
_KINDS = {
    name: kind
    for kind, short in SHORT.items()
    for name in (kind.value, kind.value.removesuffix("s"), short)
}


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


def kind_of(word: str) -> Kind:
    """Return the kind of ``services``, ``service`` or ``svc``.

    Raises:
        CliError: there is no such kind.

    """
    kind = _KINDS.get(word.lower())
    if kind is None:
        known = ", ".join(f"{k.value} ({short})" for k, short in SHORT.items())
        raise usage(f"unknown kind {word!r}: one of {known}")
    return kind
