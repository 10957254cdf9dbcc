"""By labels: which series are a service's, what instances they tell of, the engine and role of each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from heteroscale.engines import MAPPINGS
from heteroscale.words import Role
from heteroscale_coordinator.core.spec.matchers import matchers, quoted
from heteroscale_coordinator.core.spec.source import FindingSpec
from heteroscale_coordinator.edge.prometheus.answers import Labels, PrometheusError
from heteroscale_coordinator.edge.prometheus.promql import presence_names

SERVICE_LABELS = (
    *("heteroscale_service", "service", "model_name", "app", "job", "deployment", "namespace"),
    *("app_kubernetes_io_name", "label_app", "container", "exported_service", "model"),
)
"""Labels that may bear a service's name, the most telling first."""
MODEL_LABELS = ("model_name", "model")
"""An engine has series that name no model; they are its own too."""
ROLE_LABELS = (
    *("heteroscale_role", "role", "llm_d_ai_role", "engine_type", "disaggregation_mode", "pd_role"),
    *("component", "pod", "job", "container", "app", "deployment", "service", "instance"),
)
"""Labels that may bear a role, the most telling first."""
GPU_LABELS = (
    *("gpu_type", "gpu_product", "accelerator", "gpu_model", "gpu", "modelName"),
    *("nvidia_com_gpu_product", "node_gpu_product"),
)
SCRAPER_LABELS = (
    *("job", "endpoint", "service", "container", "prometheus", "prometheus_replica", "replica"),
    *("__replica__", "monitor", "receive", "cluster_replica"),
)
"""Labels that say who scraped, or how, not what."""
_ROLE = re.compile(r"(?:^|[^a-z])(prefill|decode)(?:r|er)?(?:[^a-z]|$)")
_LISTED = 12
"""Names in a message."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An instance as labels tell of it."""

    name: str
    """Value of the label that tells instances apart."""
    engine: str
    """Name of its mapping in ``heteroscale.engines``."""
    role: Role | None
    """None: no label says it."""
    gpu_type: str
    """Empty: nobody says it."""
    labels: Labels
    gpus: int | None = None
    """How many it has; None: nobody says."""
    role_from: str = ""
    """Label that told the role; empty: matchers, or nobody."""


@dataclass(frozen=True, slots=True)
class Found:
    """The instances of a service, and how they were found."""

    select: str
    """Matchers of its series."""
    by: str
    """Label that tells its instances apart."""
    instances: tuple[Seen, ...]


def presence_match(select: str = "") -> str:
    """Return the selector of the series by which any engine we know shows that it is there."""
    known = sorted({name for mapping in MAPPINGS.values() for name in presence_names(mapping)})
    pattern = "|".join(re.escape(name) for name in known)
    return f"{{__name__=~{quoted(pattern)}{f',{select}' if select else ''}}}"


def names_match(names: Iterable[str], select: str) -> str:
    """Return the selector of the series of some names."""
    pattern = "|".join(sorted(re.escape(name) for name in names))
    return f"{{__name__=~{quoted(pattern)}{f',{select}' if select else ''}}}"


def choose(service: str, spec: FindingSpec, seen: Sequence[Labels]) -> str:
    """Return the matchers of a service's series: those of ``spec``, else by a label with its name.

    Raises:
        PrometheusError: no label has that value; the message lists what there is.

    """
    if spec.select:
        return spec.select
    for label in SERVICE_LABELS:
        if any(one.get(label) == service for one in seen):
            if label in MODEL_LABELS:
                return f"{label}=~{quoted(re.escape(service) + '|')}"
            return f"{label}={quoted(service)}"
    raise PrometheusError(_no_such(service, seen))


def identify(
    spec: FindingSpec, select: str, seen: Sequence[Labels], *, live: bool = False
) -> Found:
    """Return the instances that series tell of. ``live``: all are of one moment.

    At one moment there may be none, nor any of a role; and then two series that differ in nothing but
    who scraped them are the same thing twice.

    Raises:
        PrometheusError: none is there, the label that tells them apart is missing, or roles that were
            written match nothing, or one instance twice.

    """
    wanted = matchers(select)
    mine = [one for one in seen if all(matcher.accepts(one) for matcher in wanted)]
    if not mine and not live:
        raise PrometheusError(f"no engine's series match {{{select}}}: check `select` or --select")
    by = spec.instance_label or ("pod" if all("pod" in one for one in mine) else "instance")
    if any(by not in one for one in mine):
        labels = ", ".join(sorted(mine[0].keys() - {"__name__"}))
        raise PrometheusError(f"series without label {by!r}; there are {labels}: --instance-label")
    if live:
        _refuse_doubles(mine, by)
    groups: dict[str, list[Labels]] = {}
    for one in mine:
        groups.setdefault(one[by], []).append(one)
    roles = {role: matchers(text) for role, text in spec.roles.items()}
    found = []
    for name, series in sorted(groups.items()):
        merged = {label: value for one in series for label, value in one.items()}
        asked = [r for r, all_of in roles.items() if all(m.accepts(merged) for m in all_of)]
        if len(asked) > 1:
            raise PrometheusError(f"{name} is matched by several roles: {', '.join(asked)}")
        told, label = (asked[0], "") if asked else _role_of(merged, given=bool(roles))
        engine = _engine_of(one.get("__name__", "") for one in series)
        gpu = next((merged[label] for label in GPU_LABELS if merged.get(label)), "")
        found.append(Seen(name, engine, told, gpu, merged, role_from=label))
    for role in () if live else roles:
        if not any(one.role is role for one in found):
            raise PrometheusError(
                f"no instance matches {role}'s {{{spec.roles[role]}}}; there are {_list(groups)}"
            )
    return Found(select, by, tuple(found))


def _refuse_doubles(seen: Sequence[Labels], by: str) -> None:
    """Refuse an engine that is scraped twice: its sums would be double."""
    known: dict[frozenset[tuple[str, str]], Labels] = {}
    for one in seen:
        key = frozenset(pair for pair in one.items() if pair[0] not in SCRAPER_LABELS)
        other = known.setdefault(key, one)
        if other is not one:
            differ = sorted(k for k in SCRAPER_LABELS if one.get(k) != other.get(k))
            told = ", ".join(
                f"{k}={quoted(other.get(k, ''))} and {quoted(one.get(k, ''))}" for k in differ
            )
            raise PrometheusError(
                f"{one.get(by, '?')} is there twice, with {told}: its sums would be double. Choose one "
                "in `select`, or have the copies made one (deduplication)"
            )


def shown_names(seen: Iterable[Labels]) -> frozenset[str]:
    """Return the names of series."""
    return frozenset(one.get("__name__", "") for one in seen)


def nothing_there() -> str:
    """Return what to say where no engine shows itself."""
    known = {name: min(presence_names(mapping)) for name, mapping in MAPPINGS.items()}
    looked = ", ".join(f"{metric} ({engine})" for engine, metric in known.items())
    return (
        f"no inference engine's metrics in this Prometheus. Looked for {looked} and their older names. "
        "Let it scrape the engines' /metrics (SGLang: --enable-metrics; TensorRT-LLM: "
        "/prometheus/metrics), or ask for a longer time: --since"
    )


def _role_of(labels: Labels, *, given: bool) -> tuple[Role | None, str]:
    """Return the role that a label's value says, and the label; other labels than the usual come last."""
    if given:
        return None, ""
    for label in (*ROLE_LABELS, *sorted(labels.keys() - set(ROLE_LABELS) - {"__name__"})):
        told = set(_ROLE.findall(labels.get(label, "").lower()))
        if len(told) == 1:
            return Role(told.pop()), label
    return None, ""


def _engine_of(names: Iterable[str]) -> str:
    shown = set(names)
    return next(name for name, m in MAPPINGS.items() if shown & presence_names(m))


def _no_such(service: str, seen: Sequence[Labels]) -> str:
    values: Mapping[str, Counter[str]] = {
        label: Counter(one[label] for one in seen if one.get(label)) for label in SERVICE_LABELS
    }
    told = "; ".join(f"{label}: {_list(found)}" for label, found in values.items() if found)
    return (
        f"no engine's series has a label with the value {service!r}. There is {told or 'no such label'}."
        " Name one of these as --service, or say which series are the service's, e.g. "
        "--select 'namespace=\"llm\"'"
    )


def _list(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" … and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return ", ".join(known[:_LISTED]) + more
