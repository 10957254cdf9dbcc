"""What the journal says, once read: a fold over its entries, kept in memory beside the file.

An entry is a small JSON object with a kind ``k``. Replaying all entries in order gives the state
again, and so does replaying `snapshot`, which is what compaction writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from heteroscale import __version__
from heteroscale.words import Outcome
from heteroscale_agent.model import CommandResult

Entry = dict[str, Any]

KEEP_ANSWERS = 86_400.0
"""Seconds an acknowledged answer is kept beyond its command's deadline."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A command about to be carried out."""

    command_id: str
    instance_id: str
    verb: str
    keep_until: float
    """Wall clock, seconds since 1970: an answer must be found at least until then."""


FORMAT = 1
"""What this release writes and the newest that it reads. It grows only when a release before could
not do right by what is written; a new field or a new kind of entry, which older ones pass over, is no
reason. A file that does not say has format 1."""


def format_entry() -> Entry:
    """Return the entry that says how the file is written, and by which release."""
    return {"k": "format", "format": FORMAT, "release": __version__}


def epoch_entry(epoch: int) -> Entry:
    """Return the entry that raises the highest epoch heard."""
    return {"k": "epoch", "epoch": epoch}


def intent_entry(intent: Intent) -> Entry:
    """Return the entry that precedes an act."""
    return {
        "k": "intent",
        "id": intent.command_id,
        "instance": intent.instance_id,
        "verb": intent.verb,
        "keep": intent.keep_until,
    }


def result_entry(result: CommandResult, keep_until: float) -> Entry:
    """Return the entry of an answer. The status is not kept: it would be old when it is read."""
    return {
        "k": "result",
        "id": result.command_id,
        "outcome": result.outcome.value,
        "message": result.message,
        "keep": keep_until,
    }


def acknowledged_entry(command_ids: list[str]) -> Entry:
    """Return the entry that takes one pending answer of each id off the list."""
    return {"k": "acked", "ids": command_ids}


def instance_entry(instance_id: str, record: dict[str, Any]) -> Entry:
    """Return the entry that holds the newest record of an instance."""
    return {"k": "instance", "id": instance_id, "record": record}


def forgotten_entry(instance_id: str) -> Entry:
    """Return the entry that drops an ended instance; its log file may still be there."""
    return {"k": "forgotten", "id": instance_id}


def pruned_entry(instance_ids: list[str]) -> Entry:
    """Return the entry that says that log files of forgotten instances are gone."""
    return {"k": "pruned", "ids": instance_ids}


@dataclass(slots=True)
class Ledger:
    """The state that entries add up to. Raises KeyError, TypeError or ValueError for nonsense."""

    format: int = 0
    """The newest format that an entry spoke of; 0: none did."""
    release: str = ""
    """Who wrote that, for a person."""
    epoch: int = 0
    intents: dict[str, Intent] = field(default_factory=dict)
    """Commands without any answer yet."""
    answers: dict[str, CommandResult] = field(default_factory=dict)
    keep: dict[str, float] = field(default_factory=dict)
    pending: list[CommandResult] = field(default_factory=list)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, None] = field(default_factory=dict)
    """Forgotten instances that left a log file, oldest first."""

    def apply(self, entry: Entry) -> None:
        """Fold one entry in; kinds of a newer version are passed over."""
        handlers: dict[str, Callable[[Entry], None]] = {
            "format": self._format,
            "epoch": self._epoch,
            "intent": self._intent,
            "result": self._result,
            "acked": self._acked,
            "instance": self._instance,
            "forgotten": self._forgotten,
            "pruned": self._pruned,
            "answer": self._answer,
        }
        handler = handlers.get(entry["k"])
        if handler is not None:
            handler(entry)

    def snapshot(self, wall: float) -> Iterator[Entry]:
        """Yield entries that rebuild this state, without answers that nobody can ask for."""
        yield format_entry()
        yield epoch_entry(self.epoch)
        for intent in self.intents.values():
            yield intent_entry(intent)
        waiting = {result.command_id for result in self.pending}
        for command_id, result in self.answers.items():
            if command_id in waiting or self.keep.get(command_id, 0.0) > wall:
                yield {**result_entry(result, self.keep.get(command_id, 0.0)), "k": "answer"}
        for result in self.pending:
            yield result_entry(result, self.keep.get(result.command_id, 0.0))
        for instance_id, record in self.records.items():
            yield instance_entry(instance_id, record)
        for instance_id in self.logs:
            yield forgotten_entry(instance_id)

    def prune(self, wall: float) -> None:
        """Drop answers that are acknowledged and past their time."""
        waiting = {result.command_id for result in self.pending}
        for command_id in [c for c, keep in self.keep.items() if keep <= wall and c not in waiting]:
            self.keep.pop(command_id, None)
            self.answers.pop(command_id, None)

    def _format(self, entry: Entry) -> None:
        number = int(entry["format"])
        if number >= self.format:
            self.format, self.release = number, str(entry.get("release", ""))

    def _epoch(self, entry: Entry) -> None:
        self.epoch = max(self.epoch, int(entry["epoch"]))

    def _intent(self, entry: Entry) -> None:
        intent = Intent(
            str(entry["id"]), str(entry["instance"]), str(entry["verb"]), float(entry["keep"])
        )
        if intent.command_id not in self.answers:
            self.intents[intent.command_id] = intent

    def _answer(self, entry: Entry) -> None:
        result = CommandResult(str(entry["id"]), Outcome(entry["outcome"]), str(entry["message"]))
        self.answers[result.command_id] = result
        self.keep[result.command_id] = float(entry["keep"])
        self.intents.pop(result.command_id, None)

    def _result(self, entry: Entry) -> None:
        self._answer(entry)
        self.pending.append(self.answers[str(entry["id"])])

    def _acked(self, entry: Entry) -> None:
        # One for one: an ACCEPTED that is acknowledged must not take the DONE behind it along.
        for command_id in entry["ids"]:
            for index, result in enumerate(self.pending):
                if result.command_id == command_id:
                    del self.pending[index]
                    break

    def _instance(self, entry: Entry) -> None:
        self.records[str(entry["id"])] = dict(entry["record"])
        self.logs.pop(str(entry["id"]), None)

    def _forgotten(self, entry: Entry) -> None:
        self.records.pop(str(entry["id"]), None)
        self.logs[str(entry["id"])] = None

    def _pruned(self, entry: Entry) -> None:
        for instance_id in entry["ids"]:
            self.logs.pop(instance_id, None)
