"""The watch stream folded into what is known now; after a lost coordinator it starts again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from heteroscale.v1 import operator_pb2 as pb
from heteroscale_cli.client import Client, ExhaustedError
from heteroscale_cli.errors import EXIT_UNREACHABLE, CliError
from heteroscale_cli.text import state_word

KEPT_DECISIONS = 50
RETRY_S = 1.0
"""Between two attempts to watch again; one person's terminal, so no need for jitter."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream broke after it had been heard; what is known is from before."""

    reason: str


async def follow(
    client: Client, service: str, *, retry_s: float = RETRY_S
) -> AsyncGenerator[pb.WatchResponse | Lost]:
    """Watch without end, over restarts of the coordinator; ``Lost`` is yielded meanwhile.

    A watch that the coordinator dropped because it was read too slowly begins again too.

    Raises:
        CliError: it was never heard, or it refuses.

    """
    heard = False
    while True:
        reason = "the coordinator ended the stream"
        try:
            async with aclosing(client.watch(service)) as responses:
                async for response in responses:
                    heard = True
                    yield response
        except CliError as error:
            again = error.code == EXIT_UNREACHABLE or isinstance(error, ExhaustedError)
            if not (heard and again):
                raise
            reason = str(error)
        yield Lost(reason)
        await asyncio.sleep(retry_s)


@dataclass(slots=True)
class Picture:
    """What a watch has shown so far."""

    services: dict[str, pb.Service] = field(default_factory=dict)
    instances: dict[str, pb.Instance] = field(default_factory=dict)
    nodes: dict[str, pb.Node] = field(default_factory=dict)
    decisions: deque[pb.Decision] = field(default_factory=lambda: deque(maxlen=KEPT_DECISIONS))
    synced: bool = False
    lost: str = ""
    """Why the stream is broken; empty while it is up."""
    _snapshot: set[tuple[str, str]] = field(default_factory=set)
    """What the stream's first state has named; the rest is forgotten when it is complete."""

    def take(self, item: pb.WatchResponse | Lost) -> None:
        """Fold one message of ``follow`` in."""
        if isinstance(item, Lost):
            self.lost, self.synced = item.reason, False
            self._snapshot.clear()
            return
        self.lost = ""
        match item.WhichOneof("event"):
            case "service":
                self._service(item.service)
            case "instance":
                self._instance(item.instance)
            case "node":
                self.nodes[item.node.agent_id] = item.node
                self._named("node", item.node.agent_id)
            case "decision":
                self._decision(item.decision)
            case "synced":
                self._forget_unnamed()
            case _:  # of a newer coordinator
                pass

    def _named(self, kind: str, key: str) -> None:
        if not self.synced:
            self._snapshot.add((kind, key))

    def _service(self, service: pb.Service) -> None:
        if service.condition == "deleted":
            self.services.pop(service.name, None)
            return
        self.services[service.name] = service
        self._named("service", service.name)
        if service.last_decision.decision_id:
            self._decision(service.last_decision)

    def _instance(self, instance: pb.Instance) -> None:
        if state_word(instance.state) == "terminated":
            self.instances.pop(instance.instance_id, None)
            return
        self.instances[instance.instance_id] = instance
        self._named("instance", instance.instance_id)

    def _decision(self, decision: pb.Decision) -> None:
        # An equal hold comes again under its id, with a higher count.
        known = [d.decision_id for d in self.decisions]
        if decision.decision_id and decision.decision_id in known:
            self.decisions[known.index(decision.decision_id)] = decision
        else:
            self.decisions.append(decision)

    def _forget_unnamed(self) -> None:
        self.synced = True
        kept = self._snapshot
        self.services = {k: v for k, v in self.services.items() if ("service", k) in kept}
        self.instances = {k: v for k, v in self.instances.items() if ("instance", k) in kept}
        self.nodes = {k: v for k, v in self.nodes.items() if ("node", k) in kept}
        self._snapshot = set()
