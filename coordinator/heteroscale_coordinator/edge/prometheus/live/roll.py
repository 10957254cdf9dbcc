"""Which engine of a look is which instance; which instances are found here, and which are gone.

An instance that an agent or an adapter tells of is only measured here. Others are instances of the
watcher's own where nobody of ours launches them (``actuation: {by: external}``). While somebody tells of
an instance that no engine matches, no further one is taken: it might be that one, counted twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from heteroscale.words import GateState, InstanceState, Role
from heteroscale_coordinator.core.instance import ENDED
from heteroscale_coordinator.core.model import Instance, RankFact, Service
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.edge.prometheus.identify import Seen
from heteroscale_coordinator.edge.prometheus.live.look import Look

ORIGIN = "prometheus "
"""What an instance that is found here has as its origin, before its name."""
_UNFIT = re.compile(r"[^A-Za-z0-9._:-]+")
_ENDED = "its series ended"
_IN_VAIN = "its scrapes fail (up is 0)"
Names = Callable[[str], Iterable[str]]
"""What monitoring may call an instance, by its id, beside its address."""


@dataclass(slots=True)
class Roll:
    """What is known of a service's engines between looks."""

    watcher: str
    """Id under which its own instances stand."""
    gone_after: float
    names: Names = lambda _: ()
    ids: dict[str, str] = field(default_factory=dict)
    """Ids of its own instances, by name."""
    measured: dict[str, str] = field(default_factory=dict)
    """Ids of the instances that the last look was matched to, by name; its own among them."""
    notes: list[str] = field(default_factory=list)
    """What an operator should know of the last look."""
    roles: set[Role] = field(default_factory=set)
    """Roles of these."""
    _finds: bool = True
    _absent: dict[str, float] = field(default_factory=dict)
    """By name: seconds without it, in good answers."""

    def missed(self) -> Iterable[str]:
        """Return the names of its own instances."""
        return tuple(self.ids)

    def facts(
        self, state: State, service: Service, look: Look, now: float, since: float
    ) -> list[RankFact]:
        """Return what has changed, by a good look ``since`` seconds after the last good one."""
        self.recall(state)
        self.notes = []
        others = [i for i in state.of_service(service.name) if self._others(i)]
        self.measured = match(look, others, state, self.names)
        strangers = [one for one in look.found.instances if one.name not in self.measured]
        unmatched = len(others) - len(self.measured)
        taken = [one for one in strangers if not unmatched or one.name in self.ids]
        self._finds = service.spec.external
        own = dict(self._own(service, taken)) if self._finds else {}
        if left := [s for s in strangers if not self._finds or s not in taken]:
            self._note_strangers(service, left, unmatched)
        ids = set(self.measured.values())
        self.roles = {i.role for i in others if i.instance_id in ids}
        self.roles |= {role for _, role in own.values()}
        made = [*self._present(state, service, look, own, now)]
        made += self._missing(state, look, own, since)
        return made

    def blind(self, state: State, why: str) -> list[RankFact]:
        """Return its own instances as unknown: nobody has answered for too long."""
        self.recall(state)
        kept = [i for key in self.ids.values() if (i := state.instances.get(key)) is not None]
        return [*_changed(kept, InstanceState.UNKNOWN, why)]

    def recall(self, state: State) -> None:
        """Take over what is committed: after a restart, all; ended ones are let go."""
        for instance in state.of_agent(self.watcher):
            name = instance.origin.removeprefix(ORIGIN)
            if instance.state not in ENDED:
                self.ids.setdefault(name, instance.instance_id)
            elif self.ids.get(name) == instance.instance_id:
                self._drop(name)

    def standing(self, state: State) -> tuple[RankFact, ...]:
        """Return its own instances just as they are, for a hello."""
        self.recall(state)
        known = (state.instances.get(key) for key in self.ids.values())
        return tuple(_fact(i, i.state, i.message, i.generation) for i in known if i is not None)

    def _others(self, instance: Instance) -> bool:
        gone = instance.state in ENDED or instance.state is InstanceState.LOST
        return not gone and instance.agent_id != self.watcher

    def _own(
        self, service: Service, strangers: Iterable[Seen]
    ) -> Iterator[tuple[str, tuple[Seen, Role]]]:
        roles, unsure = service.spec.roles, []
        for one in strangers:
            role = Role.AGGREGATED if Role.AGGREGATED in roles else one.role
            if role in roles:
                yield one.name, (one, role)
            else:
                unsure.append(one.name)
        if unsure:
            self.notes.append(
                f"of {_list(unsure)} the role is not known, and they are not counted: write `signals."
                "roles` with matchers for each role"
            )

    def _note_strangers(self, service: Service, strangers: list[Seen], unmatched: int) -> None:
        why = f"no instance of {service.name} has such a pod name or address"
        if self._finds:
            why = (
                f"{unmatched} that agents tell of match no engine here, and might be these: none is "
                "counted twice"
            )
        self.notes.append(f"not used: {_list([one.name for one in strangers])}; {why}")

    def _present(
        self,
        state: State,
        service: Service,
        look: Look,
        own: Mapping[str, tuple[Seen, Role]],
        now: float,
    ) -> Iterator[RankFact]:
        freshness = service.spec.policy.freshness
        for name, (one, role) in own.items():
            self._absent.pop(name, None)
            key = self.ids.setdefault(name, f"{_UNFIT.sub('-', name)[:100]}@{int(now):x}")
            self.measured[name] = key
            fresh = look.ages.get(name, float("inf")) <= freshness
            wanted = InstanceState.IN_SERVICE if fresh else InstanceState.UNKNOWN
            message = "" if fresh else f"its newest sample is older than {freshness:g} s"
            known = state.instances.get(key)
            if known is None:
                fact = _new(key, service.name, role, one)
                yield replace(fact, state=wanted, message=message)
            elif (known.state, known.message, known.role) != (wanted, message, role):
                yield _fact(known, wanted, message, known.generation + 1, role)

    def _missing(
        self, state: State, look: Look, own: Mapping[str, object], since: float
    ) -> Iterator[RankFact]:
        for name in sorted(self.ids.keys() - own.keys()):
            known = state.instances.get(self.ids[name])
            if known is None:
                self._drop(name)
                continue
            state_then, why = self._fate(name, look, own, since)
            if state_then in ENDED:
                self._drop(name)
            yield from _changed([known], state_then, why)

    def _fate(
        self, name: str, look: Look, own: Mapping[str, object], since: float
    ) -> tuple[InstanceState, str]:
        """Return what becomes of an instance that this look does not show as the watcher's own."""
        if name in self.measured:
            return InstanceState.TERMINATED, f"told of by others as {self.measured[name]}"
        if not self._finds:
            return (
                InstanceState.TERMINATED,
                "not found here any more: others do not scale the service",
            )
        if any(one.name == name for one in look.found.instances):
            return InstanceState.UNKNOWN, "its role is not known any more"
        if look.scraped.get(name) == 0:
            self._absent[name] = 0.0
            return InstanceState.UNKNOWN, _IN_VAIN
        # Where nothing of the service is seen at all, that is a hole in what is seen, not deaths.
        absent = self._absent[name] = self._absent.get(name, 0.0) + (since if own else 0.0)
        if absent >= self.gone_after:
            return InstanceState.TERMINATED, f"{_ENDED}, {self.gone_after:g} s ago"
        return InstanceState.UNKNOWN, _ENDED

    def _drop(self, name: str) -> None:
        self.ids.pop(name, None)
        self._absent.pop(name, None)


def match(look: Look, instances: Iterable[Instance], state: State, names: Names) -> dict[str, str]:
    """Return the ids of the instances that engines of a look are, by name; none that is not sure."""
    by_key: dict[str, set[str]] = {}
    for instance in instances:
        for key in keys(instance, state, names):
            by_key.setdefault(key, set()).add(instance.instance_id)
    found: dict[str, str] = {}
    for one in look.found.instances:
        hits = [by_key[key] for key in _labels(one) if len(by_key.get(key, ())) == 1]
        meant = set().union(*hits)
        if len(meant) == 1:
            found[one.name] = meant.pop()
    doubles = {i for i in found.values() if list(found.values()).count(i) > 1}
    return {name: i for name, i in found.items() if i not in doubles}


def keys(instance: Instance, state: State, names: Names) -> set[str]:
    """Return what a Prometheus may call an instance: id, pod, host:port, and what ``names`` says."""
    found = {instance.instance_id, *names(instance.instance_id)}
    found |= {word for word in instance.origin.split() if "/" in word}
    found |= {word.rpartition("/")[2] for word in instance.origin.split() if "/" in word}
    address = urlsplit(instance.endpoint if "//" in instance.endpoint else f"//{instance.endpoint}")
    if address.hostname and address.port:
        hosts = {address.hostname}
        if (agent := state.agents.get(instance.agent_id)) is not None:
            hosts |= {agent.hostname, agent.advertise_host} - {""}
        found |= {f"{host}:{address.port}" for host in hosts}
    return found - {""}


def _labels(one: Seen) -> set[str]:
    labels = one.labels
    told = {labels.get(n, "") for n in ("instance", "pod", "exported_instance", "exported_pod")}
    told |= {labels.get(n, "") for n in ("heteroscale_instance", "instance_id")}
    if "namespace" in labels and "pod" in labels:
        told.add(f"{labels['namespace']}/{labels['pod']}")
    return {one.name, *told} - {""}


def _new(key: str, service: str, role: Role, one: Seen) -> RankFact:
    address = one.labels.get("instance", "")
    return RankFact(
        instance_id=key,
        service=service,
        role=role,
        state=InstanceState.IN_SERVICE,
        generation=1,
        gate_state=GateState.OPEN,
        endpoint=f"http://{address}" if ":" in address else "",
        origin=f"{ORIGIN}{one.name}",
        gpu_type=one.gpu_type,
    )


def _changed(
    instances: Iterable[Instance], state: InstanceState, message: str
) -> Iterator[RankFact]:
    for one in instances:
        if (one.state, one.message) != (state, message):
            yield _fact(one, state, message, one.generation + 1)


def _fact(
    known: Instance,
    state: InstanceState,
    message: str,
    generation: int,
    role: Role | None = None,
) -> RankFact:
    return RankFact(
        instance_id=known.instance_id,
        service=known.service,
        role=role or known.role,
        state=state,
        generation=generation,
        gate_state=known.gate_state,
        endpoint=known.endpoint,
        message=message,
        origin=known.origin,
        gpu_type=known.gpu_type,
    )


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004 - enough to see
    return ", ".join(names[:5]) + more
