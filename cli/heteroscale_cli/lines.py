"""A watch as plain lines, for logs and pipes: one line for each change that says something new."""

from __future__ import annotations

from heteroscale.convert import timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import Role
from heteroscale_cli import tables, text
from heteroscale_cli.picture import Lost


class Lines:
    """Turns the stream into lines; what a thing last looked like decides whether it is news."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], str] = {}
        self._known: dict[str, tuple[str, str]] = {}

    def line(self, item: pb.WatchResponse | Lost, now: float) -> str | None:
        """Return the line of one message, or None when it tells a reader nothing new."""
        if isinstance(item, Lost):
            lost = self._news("stream", "", f"not up to date: {item.reason}; trying again")
            return f"{text.clock(timestamp(now))} {lost}" if lost else None
        match item.WhichOneof("event"):
            case "service":
                news = self._news("service", item.service.name, service_words(item.service))
            case "instance":
                news = self._instance(item.instance)
            case "node":
                news = self._news("node", item.node.agent_id, _node_words(item.node))
            case "decision":
                key = item.decision.decision_id or item.decision.service
                news = self._news("decision", key, decision_words(item.decision))
            case _:
                self._last.pop(("stream", ""), None)
                news = None
        return f"{text.clock(item.time)} {news}" if news else None

    def _news(self, kind: str, key: str, words: str) -> str | None:
        if self._last.get((kind, key)) == words:
            return None
        self._last[kind, key] = words
        return words

    def _instance(self, instance: pb.Instance) -> str | None:
        who = f"{instance.service} {text.role_word(instance.role)} {instance.instance_id}"
        who, before = self._known.get(instance.instance_id, (who, ""))
        now = text.state(instance)
        # Of an instance that is forgotten only the id is told, to watchers of other services too.
        if before == now or not (before or instance.service):
            return None
        self._known[instance.instance_id] = (who, now)
        change = f"{before} -> {now}" if before else now
        tail = f": {text.clean(instance.message)}" if instance.message else ""
        return f"{who} {change}{tail}"


def service_words(service: pb.Service) -> str:
    """Return a service in one line: counts as in service/wanted, ratio, load."""
    roles = " ".join(
        f"{role.value} {text.counts(status)}"
        for role in Role
        if (status := text.role_of(service, role)) is not None
    )
    who = f"{service.name} {text.condition(service)} {text.mode(service)}"
    return f"{who}: {roles} ratio {text.ratio(service)}; {text.load(service)}"


def decision_words(decision: pb.Decision) -> str:
    """Return a decision in one line."""
    step = text.step(decision)
    what = text.action(decision) + ("" if step == text.NONE else f" {step}")
    return f"{decision.service} {what}: {text.clean(decision.reason)}"


def _node_words(node: pb.Node) -> str:
    tail = f": {text.clean(node.message)}" if node.message else ""
    return f"node {node.agent_id} {tables.node_state(node)}{tail}"
