"""``kind: slurm`` in the coordinator's document: the options, and what is wrong with them in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from heteroscale_scheduler_adapters.port import SettingsError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
Level = Literal["s0", "s1", "s2", "logical_cluster", "vdc"]


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("a duration such as 30s, 10m, 12h or 7d")
    return float(match.group(1)) * _UNITS[match.group(2)]


Duration = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=_camel, frozen=True)


class RestOptions(_Strict):
    """How slurmrestd is reached."""

    url: str
    """``http://HOST:6820``, ``https://…``, or ``unix:/run/slurmrestd.socket``."""
    user: str = ""
    """Whose token it is; default: the user that the coordinator runs as."""
    token_file: Path | None = None
    """A file with what ``scontrol token`` prints; read anew for each request. None: local auth."""
    version: Annotated[str, Field(pattern=r"^(v0\.0\.\d\d)?$")] = ""
    """Default: the newest that both sides speak."""

    @model_validator(mode="after")
    def _scheme(self) -> Self:
        if not self.url.startswith(("http://", "https://", "unix:/")):
            raise ValueError("url starts with http://, https:// or unix:/")
        return self


class CommandOptions(_Strict):
    """Where Slurm's commands are."""

    path: str = ""
    """Folders before PATH, with ``:`` between them."""
    config: Path | None = None
    """The cluster's ``slurm.conf``; default: SLURM_CONF, else Slurm's own. Two clusters need it."""


class TopologyOptions(_Strict):
    """Which domains the switches or blocks are."""

    file: Path | None = None
    """A copy of ``topology.conf``; default: ``scontrol show topology``, where there is a ``scontrol``."""
    switches: tuple[Level, ...] = ("s1", "s2")
    """Levels of the switches, from the leaf upward."""
    blocks: tuple[Level, ...] = ("s0", "s1")
    """Levels of the blocks (topology/block), from the smallest upward."""


class AgentOptions(_Strict):
    """What a job runs."""

    command: str = "heteroscale agent run"
    """As typed on a compute node."""
    config: str = "/etc/heteroscale/agent.yaml"
    """The agent's document, by its path on a compute node."""
    more: str = ""
    """Further words, such as ``--coordinator ctl:9700``."""


class JobOptions(_Strict):
    """How jobs are submitted. Texts may hold ``{name}``: a parameter of the role in the service."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    """Features that the nodes must have."""
    time_limit: Duration = 0.0
    """Rounded up to minutes; 0: as the partition has it."""
    warning: Duration = 120.0
    """So long before the time limit TERM comes, and the instance drains. Slurm may be a minute early."""
    requeue: bool = False
    """Whether Slurm may start it anew after a node's failure or a preemption. Else it fails, and is
    replaced wherever there is room."""
    exclusive: bool = False
    """Whole nodes: nobody else's job beside it."""
    cpus_per_gpu: Annotated[int, Field(ge=0)] = 0
    """0: as the partition has it."""
    memory_per_gpu: Annotated[int, Field(ge=0)] = 0
    """MiB; 0: as the partition has it."""
    pin: Literal["nodes", "switches"] = "nodes"
    """To the nodes that placement chose, or only to so many leaf switches as they stand under."""
    folder: str = "/tmp"  # noqa: S108 - a folder of compute nodes, that each of them has
    """Where the script runs, on a compute node."""
    output: str = "/dev/null"
    """Where its output goes, in Slurm's words: ``/var/log/heteroscale/%x-%j.out``."""
    options: dict[str, str] = {}
    """Further options, by the name that ``sbatch`` (or slurmrestd) has for them: ``{nice: "10"}``."""

    @model_validator(mode="after")
    def _lives(self) -> Self:
        if self.time_limit and self.warning >= math.ceil(self.time_limit / 60) * 60:
            raise ValueError(
                f"warning: TERM would come {self.warning:g}s before a timeLimit of {self.time_limit:g}s, "
                "as the job begins; make warning shorter, or timeLimit longer"
            )
        return self


class TemplateOptions(_Strict):
    """Something that can be launched there, by the name that a service's role gives as ``template``."""

    name: Annotated[str, Field(min_length=1)]
    role: Literal["prefill", "decode", "aggregated", "attention", "ffn"]
    gpus: Annotated[int, Field(ge=1, le=1024)]
    """Of each rank."""
    engine: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where rank 0 serves, if that is always the same; 0: its agent tells."""
    script: str = ""
    """Shell lines that the job runs *instead of* an agent. Then it counts as ready when it runs, and
    nobody gates or drains it."""
    job: dict[str, Any] = {}
    """Options of ``job`` that are others for this template."""


class SlurmOptions(_Strict):
    """The whole."""

    way: Literal["auto", "rest", "command"] = "auto"
    """Slurm is asked through slurmrestd, or by its commands; ``auto``: by what is there and answers."""
    rest: RestOptions | None = None
    command: CommandOptions = CommandOptions()
    timeout: Annotated[Duration, Field(gt=0)] = 10.0
    """For each single request or command."""
    partition: str = ""
    """Only its nodes are told; jobs go there too, unless ``job.partition`` says otherwise."""
    reservation: str = ""
    """Jobs run in this reservation, and its nodes alone are open."""
    gpu_types: dict[str, str] = {}
    """Slurm's name of a GPU type to that of the specifications: ``{h20: H20}``; else the same."""
    untyped: str = ""
    """The type of GPUs that Slurm has no type for (``Gres=gpu:8``)."""
    topology: TopologyOptions = TopologyOptions()
    agent: AgentOptions = AgentOptions()
    job: JobOptions = JobOptions()
    templates: Annotated[tuple[TemplateOptions, ...], Field(min_length=1)]
    node_health: bool = False
    """Nodes on which an agent of ours finds a GPU lost, an Xid, ECC errors or its ports down are drained,
    and resumed once one finds them well for ten minutes. What others drained is never touched."""
    half_step_after: Annotated[Duration, Field(gt=0)] = 60.0
    """A step that was left half submitted is taken back after so long."""
    stuck_after: Annotated[Duration, Field(gt=0)] = 300.0
    """A job that is COMPLETING for so long is told of."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.way == "rest" and self.rest is None:
            raise ValueError("way: rest needs rest.url")
        names = [template.name for template in self.templates]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"templates: {', '.join(sorted(twice))} is there twice")
        for template in self.templates:
            self.job_of(template)
        return self

    def job_of(self, template: TemplateOptions) -> JobOptions:
        """Return how jobs of a template are submitted."""
        known = {_camel(field) for field in JobOptions.model_fields}
        if strange := sorted(template.job.keys() - known):
            raise ValueError(
                f"templates.{template.name}.job.{strange[0]}: no such option; "
                f"there are {', '.join(sorted(known))}"
            )
        whole = {**self.job.model_dump(by_alias=True), **template.job}
        return JobOptions.model_validate(whole)


def options_of(options: Mapping[str, Any]) -> SlurmOptions:
    """Return checked options.

    Raises:
        SettingsError: the text names the field and what would be right.

    """
    try:
        return SlurmOptions.model_validate(dict(options))
    except ValidationError as error:
        raise SettingsError(_words(error)) from None


def _words(error: ValidationError) -> str:
    said: list[str] = []
    for one in error.errors(include_url=False):
        where = ".".join(str(part) for part in one["loc"]) or "options"
        text = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            text = f"no such option; of the whole there are {_known()}"
        said.append(f"{where}: {text}")
    return "; ".join(said)


def _known() -> str:
    return ", ".join(_camel(field) for field in SlurmOptions.model_fields)
