"""From a template to what the API server is sent: pods that stand for themselves, and scaled objects."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.binding import HELD
from heteroscale_scheduler_adapters.kubernetes.marks import (
    OBJECT,
    Identity,
    gate_marks,
    identity_marks,
)
from heteroscale_scheduler_adapters.kubernetes.objects import items, part, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.templates import (
    GateRule,
    LaunchTemplate,
    selector_path,
)
from heteroscale_scheduler_adapters.port import GateWish, Launch

Expression = dict[str, Any]
PREFERRED_WEIGHT = 100


def short(value: str, length: int) -> str:
    """Return ``value`` as a part of a DNS label."""
    return re.sub("[^a-z0-9]+", "-", value.lower()).strip("-")[:length].strip("-")


def digest(*values: str) -> str:
    """Return eight signs that differ where any of the values does."""
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:8]


def filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return a manifest with ``{name}`` replaced wherever ``words`` has the name; other braces stay."""
    if isinstance(value, dict):
        return {key: filled(one, words) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, words) for one in value]
    if isinstance(value, str):
        for key, word in words.items():
            value = value.replace("{" + key + "}", word)
    return value


def pod_name(launch: Launch, rank: int) -> str:
    """Return the name of the pod of one rank: always the same, so that no launch makes it twice."""
    stem = f"{short(launch.service, 30)}-{launch.role}-{digest(launch.instance_id)}"
    return stem if len(launch.ranks) == 1 else f"{stem}-{rank}"


def pods(
    template: LaunchTemplate,
    launch: Launch,
    namespace: str,
    *,
    who: Identity,
    rule: GateRule,
    cluster: str,
) -> list[Object]:
    """Return the pods of one instance, each bound to its node; ``who`` is rank 0's identity."""
    leader = pod_name(launch, 0)
    found = []
    for rank, spot in enumerate(launch.ranks):
        words = {"rank": str(rank), "ranks": str(len(launch.ranks)), "leader": leader}
        words |= {"instance": launch.instance_id, "node": spot.node}
        pod = _filled(template.pod or {}, launch, words)
        pod |= {"apiVersion": "v1", "kind": "Pod"}
        _shared(pod, template, launch, cluster, rule)
        own = Identity(
            who.instance,
            who.request,
            rank,
            len(launch.ranks),
            who.group,
            who.cause,
            who.size,
            who.until,
        )
        marked, noted = identity_marks(own)
        gated, gate_notes = gate_marks(launch.gate, rule)
        _label(pod, {**marked, **gated})
        _annotate(pod, {**noted, **gate_notes, HELD: "true"})
        pod["metadata"] |= {"name": pod_name(launch, rank), "namespace": namespace}
        require(pod["spec"], [], [_one_of("metadata.name", [spot.node])])
        found.append(pod)
    return found


def object_name(
    template: LaunchTemplate, launch: Launch, rule: GateRule, where: list[Expression]
) -> str:
    """Return the name of the object of a service, role and domain.

    It ends in a hash of all that the object says: a template that was changed makes a new object, and
    what runs by the old one stays as it is, until it leaves as any instance does.
    """
    said = json.dumps(
        [
            template.object,
            template.gpus,
            template.port,
            rule.model_dump(exclude={"service"}),
            where,
        ],
        sort_keys=True,
    )
    words = json.dumps(sorted(launch.parameters.items()))
    end = digest(said, words, launch.service, launch.role, launch.domain, template.name)
    domain = launch.domain.rpartition("/")[2]
    stem = (short(launch.service, 16), short(launch.role, 8), short(domain, 12), end)
    return "-".join(word for word in stem if word)


def scaled_object(
    template: LaunchTemplate,
    launch: Launch,
    *,
    name: str,
    namespace: str,
    rule: GateRule,
    cluster: str,
    where: list[Expression],
) -> Object:
    """Return the object of a service, role and domain, as it is first applied: with no replicas.

    ``where`` says by which of a node's labels the domain is known.
    """
    thing = _filled(template.object or {}, launch, {"object": name})
    thing.pop("status", None)
    metadata = thing.setdefault("metadata", {})
    metadata |= {"name": name, "namespace": namespace}
    marks = _owned(template, launch, cluster) | {OBJECT: name}
    _label(thing, marks)
    _annotate(thing, _full(template, launch))
    spec = thing.setdefault("spec", {})
    spec["replicas"] = 0
    if template.kind == "StatefulSet":
        spec["podManagementPolicy"] = "Parallel"
    selected = part(thing, *selector_path(template))
    if selected:
        selected[OBJECT] = name
    for path in template.paths():
        pod = part(thing, *path.split("."))
        _shared(pod, template, launch, cluster, rule)
        _label(pod, {OBJECT: name})
        require(pod["spec"], where, [])
    return thing


def require(spec: Object, labelled: list[Expression], fields: list[Expression]) -> None:
    """Add requirements to a pod's node affinity: they hold beside each of its own terms."""
    if not labelled and not fields:
        return
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    needed = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = needed.setdefault("nodeSelectorTerms", [])
    if not terms:
        terms.append({})
    for term in terms:
        for key, more in (("matchExpressions", labelled), ("matchFields", fields)):
            if more:
                term[key] = [*term.get(key, []), *copy.deepcopy(more)]


def steered(pod: Object, node: str, *, required: bool) -> Object:
    """Return the ``spec`` of the patch that draws a waiting pod to a node, or binds it to it.

    Of a pod that waits, preferences may be changed, and requirements be added to each of its terms.
    """
    affinity: Object = copy.deepcopy(part(pod, "spec", "affinity"))
    spec: Object = {"affinity": affinity}
    if not node:
        return {}
    this = _one_of("metadata.name", [node])
    if required:
        require(spec, [], [this])
        return spec
    key = "preferredDuringSchedulingIgnoredDuringExecution"
    mine = {"weight": PREFERRED_WEIGHT, "preference": {"matchFields": [this]}}
    own = affinity.setdefault("nodeAffinity", {})
    if mine not in items(own, key):
        own[key] = [*items(own, key), mine]
    return spec


def domain_of(
    launch: Launch, levels: Mapping[str, tuple[str, ...]], node_labels: Mapping[str, str]
) -> list[Expression]:
    """Return by which labels the nodes of a launch's domain are known, read off one of them.

    The levels above are told too, where the node has them: racks of two zones may bear one name.
    """
    level = launch.domain.partition("/")[0]
    if not level:
        return []
    order = list(levels)
    found = []
    for one in order[order.index(level) :] if level in order else ():
        key = next((key for key in levels[one] if key in node_labels), None)
        if key is not None:
            found.append(_one_of(key, [node_labels[key]]))
        elif one == level:
            return []
    return found


def _one_of(key: str, values: list[str]) -> Expression:
    return {"key": key, "operator": "In", "values": values}


def _filled(manifest: Object, launch: Launch, words: Mapping[str, str]) -> Object:
    known = {"service": launch.service, "role": launch.role, "domain": launch.domain}
    known["gpus"] = str(launch.gpus)
    whole = filled(copy.deepcopy(manifest), {**known, **words, **launch.parameters})
    return dict(whole)


def _owned(template: LaunchTemplate, launch: Launch, cluster: str) -> dict[str, str]:
    said = {names.CLUSTER: cluster, names.SERVICE: launch.service, names.TEMPLATE: template.name}
    said |= {names.ROLE: launch.role, names.ENGINE: template.engine, names.PORT: str(template.port)}
    said |= {names.DOMAIN: launch.domain, names.MANAGED_BY: names.MANAGER}
    return {key: names.label_value(value) for key, value in said.items() if value}


def _full(template: LaunchTemplate, launch: Launch) -> dict[str, str]:
    said = {
        names.SERVICE: launch.service,
        names.DOMAIN: launch.domain,
        names.TEMPLATE: template.name,
    }
    return {
        key: value for key, value in said.items() if value and names.label_value(value) != value
    }


def _shared(
    pod: Object, template: LaunchTemplate, launch: Launch, cluster: str, rule: GateRule
) -> None:
    """Put on a pod, or a pod's template, what all pods of ours have."""
    _label(pod, _owned(template, launch, cluster))
    _annotate(pod, _full(template, launch))
    opened, _ = gate_marks(GateWish(open=True), rule)
    _label(pod, opened)
    spec = pod.setdefault("spec", {})
    _add(spec, "schedulingGates", "name", names.STEP_GATE)
    if rule.readiness:
        _add(spec, "readinessGates", "conditionType", names.TRAFFIC)


def _add(spec: Object, field: str, key: str, value: str) -> None:
    there = items(spec, field)
    if all(text(one, key) != value for one in there):
        spec[field] = [*there, {key: value}]


def _label(thing: Object, marks: Mapping[str, str | None]) -> None:
    _merge(thing.setdefault("metadata", {}).setdefault("labels", {}), marks)


def _annotate(thing: Object, marks: Mapping[str, str | None]) -> None:
    if any(value is not None for value in marks.values()):
        _merge(thing.setdefault("metadata", {}).setdefault("annotations", {}), marks)


def _merge(into: dict[str, Any], marks: Mapping[str, str | None]) -> None:
    for key, value in marks.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value
