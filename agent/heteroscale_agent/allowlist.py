"""What a launch may start: templates of the configuration, filled in and checked; pure.

A command names a template, never a program. Whatever of a command ends up in an engine's command
line or environment is matched in full against a pattern first. There is no shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_agent.config import AgentSpec, RoleSwitch, Template
from heteroscale_agent.hands.process import INSTANCE_ID, Order
from heteroscale_agent.instances import EngineFacts, Record, SwitchFacts
from heteroscale_agent.model import Command, Gpu, Launch
from heteroscale_agent.strays import GPUS, VISIBLE, carried

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9\[]([A-Za-z0-9.:_\]-]{0,252})")
_GROUP = re.compile(r"[A-Za-z0-9@._=/:-]{0,128}")
_FIELD = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
MAX_RANKS = 1024
HIP_VISIBLE = "HIP_VISIBLE_DEVICES"

FIELD_NAMES = frozenset(
    {
        *("host", "instance_id", "service", "role", "rank", "rank_count", "leader_host", "gpus"),
        *("port", "bootstrap_port"),
    }
)
"""What every template may use besides its parameters and {port_1} …; see `order`."""


class RefusedError(Exception):
    """A command is not carried out and nothing has changed; the text says why."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands on the host as far as a launch must know it."""

    gpus: Mapping[int, Gpu]
    """GPUs by index; none where none are watched: then indices are taken on trust."""
    gpu_owners: Mapping[int, str]
    """Who holds a GPU, in words."""
    somewhere: str = ""
    """Who holds GPUs of which nobody knows which they are, in words."""


def check_launch(spec: AgentSpec, command: Command, launch: Launch, standing: Standing) -> Template:
    """Return the template of ``launch``.

    Raises:
        RefusedError: the template, its parameters, the GPUs or a name are not as they must be.

    """
    if not INSTANCE_ID.fullmatch(command.instance_id):
        raise RefusedError(f"instance id {command.instance_id[:140]!r} has letters it may not have")
    if command.expected_generation != 0:
        raise RefusedError(f"a launch expects generation 0, not {command.expected_generation}")
    template = spec.templates.get(launch.template)
    if template is None:
        known = ", ".join(sorted(spec.templates)) or "none"
        raise RefusedError(
            f"no template {launch.template[:80]!r} in this agent's configuration (it has: {known})"
        )
    if launch.role is not template.role:
        raise RefusedError(
            f"template {launch.template!r} is for {template.role}, not for {launch.role}"
        )
    _check_names(launch)
    _check_parameters(launch, template)
    _check_gpus(launch, template, standing)
    return template


def _check_names(launch: Launch) -> None:
    if not _NAME.fullmatch(launch.service):
        raise RefusedError(f"service {launch.service[:80]!r} is no name")
    if launch.leader_host and not _HOST.fullmatch(launch.leader_host):
        raise RefusedError(f"leader host {launch.leader_host[:80]!r} is no host")
    if not _GROUP.fullmatch(launch.group):
        raise RefusedError(f"group {launch.group[:80]!r} has letters it may not have")
    if not 0 <= launch.rank < launch.rank_count <= MAX_RANKS:
        raise RefusedError(f"rank {launch.rank} of {launch.rank_count} does not exist")
    if launch.rank and not launch.leader_host:
        raise RefusedError(f"rank {launch.rank} must be told the host of rank 0 (leader_host)")
    if launch.startup_timeout <= 0:
        raise RefusedError("the start-up timeout must be longer than 0 s")


def _check_parameters(launch: Launch, template: Template) -> None:
    for name, value in launch.parameters.items():
        pattern = template.parameters.get(name)
        if pattern is None:
            raise RefusedError(f"template {launch.template!r} has no parameter {name[:80]!r}")
        try:
            fits = re.fullmatch(pattern, value) is not None
        except re.error as error:
            raise RefusedError(f"parameter {name!r}: {pattern!r} is no pattern: {error}") from error
        if not fits:
            raise RefusedError(f"parameter {name!r}: {value[:80]!r} does not match {pattern!r}")


def _check_gpus(launch: Launch, template: Template, standing: Standing) -> None:
    gpus = launch.gpu_indices
    if len(gpus) != template.gpus or len(set(gpus)) != len(gpus):
        raise RefusedError(
            f"template {launch.template!r} takes {template.gpus} GPUs, the command gives {gpus}"
        )
    if standing.somewhere:
        raise RefusedError(f"any GPU here may be held by {standing.somewhere}")
    for gpu in gpus:
        seen = standing.gpus.get(gpu)
        if gpu < 0 or (standing.gpus and seen is None):
            raise RefusedError(f"no GPU {gpu} on this host: it has {len(standing.gpus)}")
        if seen is not None and not seen.present:
            raise RefusedError(f"GPU {gpu} ({seen.uuid or 'lost'}) does not answer its driver")
        if owner := standing.gpu_owners.get(gpu):
            raise RefusedError(f"GPU {gpu} is held by {owner}")


def facts_of(template: Template, launch: Launch) -> EngineFacts:
    """Return what must be known of an engine even when its template is gone.

    Raises:
        RefusedError: its model's name uses a parameter that the command does not give.

    """
    return EngineFacts(
        engine=template.engine,
        metrics_path=template.metrics_path,
        model_name=_fill(template.model_name, launch.parameters),
        readiness_path=template.readiness.path,
        readiness_period=template.readiness.period,
        readiness_timeout=template.readiness.timeout,
        waits_for_requests=template.stop_waits_for_requests,
        kv_lease=template.kv_lease,
        role_switch=_switch_of(template.role_switch),
    )


def _switch_of(told: RoleSwitch | None) -> SwitchFacts | None:
    if told is None:
        return None
    return SwitchFacts(
        path=told.path,
        info_path=told.info_path,
        more={Role.PREFILL: told.to_prefill, Role.DECODE: told.to_decode},
        timeout=told.timeout,
        settle=told.settle,
        quiet_scrapes=told.quiet_scrapes,
        give_up_after=told.give_up_after,
    )


def endpoint(host: str, port: int) -> str:
    """Return where an engine serves; IPv6 addresses get their brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def order(template: Template, record: Record, host: str, gpus: Mapping[int, Gpu]) -> Order:
    """Return what to run for ``record``, every ``{name}`` filled in; ``gpus`` are those by index.

    Raises:
        RefusedError: the template uses a name that nobody gives.

    """
    launch, carries = record.launch, carried(record)
    values = {
        **launch.parameters,
        "host": host,
        "instance_id": record.instance_id,
        "service": launch.service,
        "role": launch.role.value,
        "rank": str(launch.rank),
        "rank_count": str(launch.rank_count),
        "leader_host": launch.leader_host or host,
        "gpus": carries[GPUS],
        "port": str(record.ports[0]),
        **{f"port_{n}": str(port) for n, port in enumerate(record.ports, start=1)},
    }
    if len(record.ports) > 1:
        values["bootstrap_port"] = str(record.ports[1])
    env = {name: _fill(text, values) for name, text in template.env.items()}
    return Order(
        instance_id=record.instance_id,
        command=[_fill(word, values) for word in template.command],
        # By PCI address, as NVML counts them; CUDA's own order is by speed.
        env={**env, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **_visible(launch, gpus), **carries},
        user=template.user,
    )


def fields_of(text: str) -> frozenset[str]:
    """Return the names that ``text`` wants filled in."""
    return frozenset(_FIELD.findall(text))


def _visible(launch: Launch, gpus: Mapping[int, Gpu]) -> dict[str, str]:
    """Return what shows an engine its GPUs and no others: indices, or uuids where those are not CUDA's.

    ROCm reads NVIDIA's variable too, but some engines for it want its own, and the same in both.
    """
    given = [gpus.get(index) for index in launch.gpu_indices]
    names = [
        gpu.visible if gpu is not None and gpu.visible else str(index)
        for gpu, index in zip(given, launch.gpu_indices, strict=True)
    ]
    amd = any(gpu is not None and gpu.vendor == "amd" for gpu in given)
    return dict.fromkeys((VISIBLE, HIP_VISIBLE) if amd else (VISIBLE,), ",".join(names))


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Fill ``{name}`` in; braces around anything but a name (JSON, say) stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise RefusedError(f"the template uses {{{name}}}, and the command does not give it")
        return values[name]

    return _FIELD.sub(value, text)
