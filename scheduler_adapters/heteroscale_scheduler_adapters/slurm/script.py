"""The batch script of a job: it becomes the agent of its instance, or runs a template's own lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from heteroscale_scheduler_adapters.port import Launch, RefusedError, Step
from heteroscale_scheduler_adapters.slurm.records import Order
from heteroscale_scheduler_adapters.slurm.settings import AgentOptions, TemplateOptions

_ASKS = re.compile(r"\{[A-Za-z_]\w*\}")
_ASKED = re.compile(r"\{([^{}]+)\}")
_MARGIN = 10
"""Seconds between the end of draining and the time limit."""
_AFTER_THE_FIRST = 60
"""Seconds that the other ranks of an instance have when one has ended well."""


def batch_script(
    cluster: str,
    step: Step,
    launch: Launch,
    *,
    template: TemplateOptions,
    agent: AgentOptions,
    order: Order,
) -> str:
    """Return the text of the script."""
    head = ["#!/bin/sh", f"# {_caption(step, launch)}"]
    if template.script:
        said = environment(step, launch, template)
        head += [f"export {key}={shlex.quote(value)}" for key, value in said.items()]
        return "\n".join(
            [*head, *_alarm(order), filled(template.script, launch.parameters, quoted=True), ""]
        )
    words = [agent.command, "--config", shlex.quote(agent.config)]
    words += ["--instance", shlex.quote(launch.instance_id), "--within", shlex.quote(cluster)]
    if order.warning:
        words += ["--leave-within", f"{max(1, order.warning - _MARGIN)}s"]
    words += [agent.more] if agent.more else []
    line = " ".join(words)
    if order.count == 1:
        return "\n".join([*head, *_alarm(order), f"exec {line} --rank 0", ""])
    return "\n".join([*head, *_alarm(order), *_each(line, order), ""])


def environment(step: Step, launch: Launch, template: TemplateOptions) -> dict[str, str]:
    """Return what a template's own script finds in its environment."""
    return {
        "HETEROSCALE_INSTANCE_ID": launch.instance_id,
        "HETEROSCALE_SERVICE": launch.service,
        "HETEROSCALE_ROLE": launch.role,
        "HETEROSCALE_TEMPLATE": template.name,
        "HETEROSCALE_GROUP": launch.group,
        "HETEROSCALE_DOMAIN": launch.domain,
        "HETEROSCALE_RANKS": str(len(launch.ranks)),
        "HETEROSCALE_NODES": ",".join(spot.node for spot in launch.ranks),
        "HETEROSCALE_GPUS": str(launch.gpus),
        "HETEROSCALE_REQUEST": step.request_id,
        "HETEROSCALE_DECISION": step.cause,
    }


def filled(text: str, parameters: Mapping[str, str], *, quoted: bool = False) -> str:
    """Return a text with its ``{name}`` replaced by parameters, for a shell if ``quoted``.

    Once: what a parameter says is no text that asks for others, or its quotes would be torn open.
    """

    def value(asked: re.Match[str]) -> str:
        said = parameters.get(asked[1])
        if said is None:
            return asked[0]
        return shlex.quote(said) if quoted else said

    return _ASKED.sub(value, text)


def plain(text: str, parameters: Mapping[str, str], where: str) -> str:
    """Return an option with its parameters.

    Raises:
        RefusedError: a parameter is missing.

    """
    found = filled(text, parameters)
    if _ASKS.search(found):
        raise RefusedError(
            f"{where}: {found!r} asks for a parameter that the service does not give"
        )
    return found


def _caption(step: Step, launch: Launch) -> str:
    said = (
        f"heteroscale: {launch.service}/{launch.role}, instance {launch.instance_id}, {step.cause}"
    )
    return " ".join(said.split())


def _alarm(order: Order) -> list[str]:
    """Return a line that warns of the time limit, where Slurm cannot warn the script alone."""
    if order.warn_batch or not (order.warning and order.limit):
        return []
    after = max(1, order.limit * 60 - order.warning)
    return [f"( sleep {after}; kill -TERM $$ ) &"]


def _each(line: str, order: Order) -> list[str]:
    """Return lines that start one agent on each node; the rank is that of the node in the order.

    To srun TERM is an order to kill its tasks. USR1 it hands on to all processes of the step: agents
    drain at it, and engines are started deaf to it.
    """
    ranks = [f"{shlex.quote(node)}) rank={rank};;" for rank, node in enumerate(order.nodes)]
    which = f"case $SLURMD_NODENAME in {' '.join(ranks)} *) rank=$SLURM_PROCID;; esac"
    inner = f"{which}; exec {line} --rank $rank"
    many = order.count
    how = f"--nodes={many} --ntasks={many} --ntasks-per-node=1 --kill-on-bad-exit=1"
    return [
        "srun= told=",
        'trap \'told=1; [ -z "$srun" ] || kill -USR1 "$srun"\' TERM USR1',
        f"srun {how} --wait={_AFTER_THE_FIRST} sh -c {shlex.quote(inner)} &",
        "srun=$!",
        '[ -z "$told" ] || kill -USR1 "$srun"',
        # A wait that a signal ends tells nothing of srun; one that ends with it does.
        "while wait $srun; status=$?; kill -0 $srun 2>/dev/null; do :; done",
        "exit $status",
    ]
