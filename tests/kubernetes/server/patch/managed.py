"""Who owns which field, and server-side apply."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.server.errors import Json, StatusError
from tests.kubernetes.server.kinds import Kind
from tests.kubernetes.server.patch import fields
from tests.kubernetes.server.patch.fields import Path


@dataclass(frozen=True)
class Owner:
    """Whoever writes: one name may own fields by updating, and others by applying."""

    manager: str
    operation: str = "Update"
    sub: str = ""

    def spoken(self, version: str) -> str:
        by = f'"{self.manager}"'
        if self.sub:
            by += f' with subresource "{self.sub}"'
        return by if self.operation == "Apply" else f"{by} using {version}"


@dataclass
class Entry:
    """What one owner owns."""

    version: str
    paths: set[Path]
    time: str


Entries = dict[Owner, Entry]


def read(obj: Json) -> Entries:
    """Return ``metadata.managedFields`` as sets."""
    found: Entries = {}
    for one in obj["metadata"].get("managedFields") or []:
        owner = Owner(one["manager"], one["operation"], one.get("subresource", ""))
        paths = fields.decode(one.get("fieldsV1") or {})
        found[owner] = Entry(one["apiVersion"], paths, one.get("time", ""))
    return found


def write(obj: Json, entries: Entries) -> None:
    """Put sets back into ``metadata.managedFields``."""
    said = []
    for owner, entry in sorted(entries.items(), key=lambda pair: pair[0].operation != "Apply"):
        if entry.paths or owner.operation == "Apply":
            one: Json = {
                "manager": owner.manager,
                "operation": owner.operation,
                "apiVersion": entry.version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields.encode(entry.paths),
            }
            if owner.sub:
                one["subresource"] = owner.sub
            said.append(one)
    obj["metadata"].pop("managedFields", None)
    if said:
        obj["metadata"]["managedFields"] = said


def updated(kind: Kind, before: Json | None, after: Json, owner: Owner, time: str) -> None:
    """Have ``owner`` own what it changed, and nobody what it removed; in place."""
    entries = read(before) if before else {}
    had = fields.leaves(kind, before) if before else {}
    has = fields.leaves(kind, after)
    changed = {path for path, value in has.items() if path not in had or had[path] != value}
    gone = set(had) - set(has)
    if not changed and not gone:
        write(after, entries)
        return
    for entry in entries.values():
        entry.paths -= changed | gone
    if changed:
        mine = entries.setdefault(owner, Entry(kind.api_version, set(), time))
        mine.paths |= changed
        mine.time, mine.version = time, kind.api_version
    write(after, entries)


def applied(
    kind: Kind, live: Json | None, wanted: Json, owner: Owner, *, force: bool
) -> tuple[Json, Entries]:
    """Return what an apply makes of ``live``, and who owns what then.

    Raises:
        StatusError: 409 with a cause per field that another owns with another value.

    """
    want = fields.leaves(kind, wanted)
    have = fields.leaves(kind, live) if live else {}
    entries = read(live) if live else {}
    clashes = _clashes(entries, owner, want, have)
    if clashes and not force:
        raise _conflict(clashes, entries)
    for other, paths in clashes.items():
        entries[other].paths -= paths
    shape = fields.shape_of(kind)
    base = copy.deepcopy(live) if live else {"metadata": {}}
    merged: Json = fields.merged(shape, base, copy.deepcopy(wanted))
    former = entries.pop(owner, None)
    if former:
        others: set[Path] = set().union(*(entry.paths for entry in entries.values()), set())
        # An item goes with its own mark; its fields would else be looked for in vain.
        for path in sorted(former.paths - set(want) - others, key=len, reverse=True):
            fields.remove(shape, merged, path)
    entries[owner] = Entry(kind.api_version, set(want), former.time if former else "")
    return merged, entries


def _clashes(
    entries: Entries, owner: Owner, want: dict[Path, Any], have: dict[Path, Any]
) -> dict[Owner, set[Path]]:
    found = {}
    for other, entry in entries.items():
        if other == owner:
            continue
        paths = {
            path for path in entry.paths & set(want)
            if path[-1] != "." and have.get(path) != want[path]
        }  # fmt: skip
        if paths:
            found[other] = paths
    return found


def _conflict(clashes: dict[Owner, set[Path]], entries: Entries) -> StatusError:
    causes, lines = [], []
    for other, paths in clashes.items():
        by = other.spoken(entries[other].version)
        said = [fields.spoken(path) for path in sorted(paths)]
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {by}", "field": one}
            for one in said
        ]
        lines += [f"conflicts with {by}:", *(f"- {one}" for one in said)]
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return StatusError(409, text, details={"causes": causes})


def stamp(obj: Json, entries: Entries, owner: Owner, before: Json | None, time: str) -> None:
    """Put owners back after an apply; the time of who applied moves only with its set."""
    had = read(before).get(owner) if before else None
    mine = entries[owner]
    mine.time = had.time if had and had.paths == mine.paths else time
    write(obj, entries)
