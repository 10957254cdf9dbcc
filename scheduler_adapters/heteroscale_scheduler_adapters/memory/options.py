"""``kind: memory`` in the coordinator's document: a cluster that is only played, to try things out.

Its engines are none: what is launched is ready at once, and nothing is ever measured there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heteroscale_scheduler_adapters.memory.adapter import MemoryAdapter
from heteroscale_scheduler_adapters.memory.cluster import MemoryCluster
from heteroscale_scheduler_adapters.memory.faults import Outage
from heteroscale_scheduler_adapters.port import SettingsError, Template

Count = Annotated[int, Field(ge=1, le=10_000)]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=_camel, frozen=True)


class TemplateOptions(_Strict):
    """Something that can be launched there."""

    name: str
    role: Literal["prefill", "decode", "aggregated", "attention", "ffn"]
    gpus: Count = 1


class MemoryOptions(_Strict):
    """The whole."""

    nodes: Count = 4
    gpus_per_node: Count = 8
    gpu_type: str = "H20"
    templates: tuple[TemplateOptions, ...] = ()
    outage: Path | None = None
    """While this file is there nobody answers: to try what silence does."""
    lifetime: Annotated[float, Field(gt=0)] | None = None
    """Seconds after its launch at which an instance is ended, as by a time limit; none: it lives on."""


def create(name: str, options: Mapping[str, Any]) -> MemoryAdapter:
    """Return an adapter over a new cluster. Raises SettingsError."""
    try:
        given = MemoryOptions.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        known = ", ".join(_camel(one) for one in MemoryOptions.model_fields)
        raise SettingsError(f"{where}: {first['msg']}; options are {known}") from None
    cluster = MemoryCluster(name, at_once=True, life=given.lifetime)
    cluster.templates = tuple(Template(t.name, t.role, t.gpus) for t in given.templates)
    if given.outage is not None:
        cluster.faults["*"] = Outage(file=given.outage)
    for number in range(given.nodes):
        cluster.add_node(f"node-{number}", given.gpus_per_node, given.gpu_type)
    return MemoryAdapter(cluster)
