"""From a path to what is asked, and from that to the room that answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.kubernetes.server import access, deletes, patches, reads, subresources, tables, writes
from tests.kubernetes.server.calls import Call, Shared, truth
from tests.kubernetes.server.errors import Json, StatusError, bad_request
from tests.kubernetes.server.kinds import Kind
from tests.kubernetes.server.watching import Watch


class NoSuchPathError(Exception):
    """404 as plain text, as for what the server has never heard of."""


@dataclass(frozen=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in small letters."""
    body: bytes = b""
    user: str = ""


@dataclass(frozen=True)
class Answer:
    """A status and an object."""

    code: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict)


def locate(shared: Shared, request: Request) -> Call:
    """Return what a path means.

    Raises:
        NoSuchPathError: there is no such group, version or kind.

    """
    parts = [one for one in request.path.split("/") if one]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise NoSuchPathError
    namespace = ""
    if (
        rest[0] == "namespaces"
        and len(rest) > 2
        and not (not group and len(rest) == 3 and rest[2] in {"status", "finalize"})
    ):
        namespace, rest = rest[1], rest[2:]
    plural, name, sub, *more = [*rest, "", ""]
    kind = shared.kinds.find(group, version, plural)
    if kind is None or any(more) or (namespace and not kind.namespaced) or not _has(kind, sub):
        raise NoSuchPathError
    if kind.namespaced and name and not namespace:
        raise NoSuchPathError
    agent = request.headers.get("user-agent", "").split(" ")[0]
    return Call(kind, namespace, name, sub, request.query, request.user, agent)


def _has(kind: Kind, sub: str) -> bool:
    if not sub:
        return True
    return (
        (sub == "status" and kind.status)
        or (sub == "scale" and kind.scale is not None)
        or sub in kind.subresources
    )


def _object(request: Request) -> Json:
    content = request.headers.get("content-type", "application/json").split(";")[0].strip()
    if content not in {"application/json", "application/yaml", ""}:
        raise StatusError(
            415,
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml",
        )
    try:
        given: Any = yaml.safe_load(request.body) if "yaml" in content else json.loads(request.body)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    if not isinstance(given, dict):
        raise bad_request("couldn't get version/kind; json parse error: not an object")
    return given


def answer(shared: Shared, request: Request) -> Answer | Watch:
    """Do what is asked.

    Raises:
        NoSuchPathError: there is no such path.
        StatusError: whatever else is wrong.

    """
    call = locate(shared, request)
    watch = request.method == "GET" and truth(request.query, "watch")
    access.check(shared, call, access.verb(request.method, call, watch=watch))
    _check_query(call)
    if call.kind.verbs:
        return _review(shared, call, request)
    match request.method:
        case "GET":
            return _get(shared, call, request, watch=watch)
        case "POST":
            return _post(shared, call, request)
        case "PUT":
            return _put(shared, call, request)
        case "PATCH":
            return _patch(shared, call, request)
        case "DELETE":
            return _delete(shared, call, request)
        case _:
            raise StatusError(
                405, "the server does not allow this method on the requested resource"
            )


def _check_query(call: Call) -> None:
    if call.query.get("dryRun", "All") != "All":
        raise bad_request('dryRun: Unsupported value: supported values: "All"')
    if call.strictness not in {"Ignore", "Warn", "Strict"}:
        raise bad_request("fieldValidation: Unsupported value")


def _review(shared: Shared, call: Call, request: Request) -> Answer:
    if request.method != "POST":
        raise StatusError(405, "the server does not allow this method on the requested resource")
    ask = access.review if call.kind.kind == "SelfSubjectAccessReview" else access.rules_review
    return Answer(201, ask(shared, call.user, _object(request)))


def _get(shared: Shared, call: Call, request: Request, *, watch: bool) -> Answer | Watch:
    if watch:
        return Watch(shared, call)
    wide = tables.asked(request.headers.get("accept", ""))
    if call.sub == "scale":
        return Answer(200, subresources.get_scale(shared, call))
    if call.sub in {"eviction", "binding", "finalize"}:
        raise StatusError(405, "the server does not allow this method on the requested resource")
    if call.name:
        found = reads.get(shared, call)
        return Answer(200, tables.table(call.kind, [found], found["metadata"]) if wide else found)
    listed = reads.listing(shared, call)
    if wide:
        return Answer(200, tables.table(call.kind, listed["items"], listed["metadata"]))
    return Answer(200, listed)


def _post(shared: Shared, call: Call, request: Request) -> Answer:
    given = _object(request)
    if call.sub == "eviction":
        return Answer(201, subresources.evict(shared, call, given))
    if call.sub == "binding":
        return Answer(201, subresources.bind(shared, call, given))
    if call.name or (call.kind.namespaced and not call.namespace):
        raise StatusError(405, "the server does not allow this method on the requested resource")
    return Answer(201, writes.create(shared, call, given))


def _put(shared: Shared, call: Call, request: Request) -> Answer:
    given = _object(request)
    if not call.name:
        raise StatusError(405, "the server does not allow this method on the requested resource")
    if call.sub == "scale":
        return Answer(200, subresources.set_scale(shared, call, lambda _: given))
    if call.sub == "finalize":
        return Answer(200, subresources.finalize(shared, call, given))
    return Answer(200, writes.update(shared, call, given))


def _patch(shared: Shared, call: Call, request: Request) -> Answer:
    content = request.headers.get("content-type", "").split(";")[0].strip()
    if not call.name:
        raise StatusError(405, "the server does not allow this method on the requested resource")
    if call.sub == "scale":
        return Answer(200, subresources.patch_scale(shared, call, content, request.body))
    fresh = content == patches.APPLY and shared.store.get(call.kind.table, call.key()) is None
    if fresh and not call.sub:
        access.check(shared, call, "create")
    made, created = patches.patch_object(shared, call, content, request.body)
    return Answer(201 if created else 200, made)


def _delete(shared: Shared, call: Call, request: Request) -> Answer:
    given = deletes.options(call, request.body)
    if call.sub:
        raise StatusError(405, "the server does not allow this method on the requested resource")
    if not call.name:
        return Answer(200, deletes.delete_all(shared, call, given))
    return Answer(200, deletes.delete(shared, call, given))
