"""Names, labels and the rest of ``metadata``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.kubernetes.server.errors import Cause, Json, required, wrong

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(rf"^{_LABEL}$")
_DNS_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_SUBDOMAIN = re.compile(rf"^{_LABEL}(\.{_LABEL})*$")
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_PATH_SEGMENT = re.compile(r"^[^/%]+$")

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
    "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
    "start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for "
    "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
    "'12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
NAME_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
    "an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
DNS_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_KINDS = {"Namespace"}
_1035_KINDS = {"Service"}
_FREE_KINDS = {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}
LONGEST_ANNOTATIONS = 256 * 1024


def is_label(name: str) -> bool:
    return len(name) <= 63 and bool(_DNS_LABEL.match(name))


def is_subdomain(name: str) -> bool:
    return len(name) <= 253 and bool(_SUBDOMAIN.match(name))


def name_causes(kind: str, name: str) -> Iterator[Cause]:
    """Yield what is wrong with the name of an object of ``kind``."""
    where = "metadata.name"
    if kind in _FREE_KINDS:
        if not _PATH_SEGMENT.match(name):
            yield wrong(where, name, "may not contain '/'")
    elif kind in _1035_KINDS | _LABEL_KINDS:
        pattern, rule = (
            (_DNS_1035, DNS_1035_RULE) if kind in _1035_KINDS else (_DNS_LABEL, LABEL_RULE)
        )
        if len(name) > 63:
            yield wrong(where, name, "must be no more than 63 characters")
        if not pattern.match(name):
            yield wrong(where, name, rule)
    else:
        if len(name) > 253:
            yield wrong(where, name, "must be no more than 253 characters")
        if not _SUBDOMAIN.match(name):
            yield wrong(where, name, SUBDOMAIN_RULE)


def qualified(path: str, key: str) -> Iterator[Cause]:
    """Yield what is wrong with the key of a label, an annotation, a gate or a condition."""
    prefix, slash, name = key.rpartition("/")
    if slash and not prefix:
        yield wrong(path, key, "prefix part must be non-empty")
    elif slash and not is_subdomain(prefix):
        yield wrong(path, key, f"prefix part {SUBDOMAIN_RULE}")
    if not name:
        yield wrong(path, key, "name part must be non-empty")
    elif len(name) > 63:
        yield wrong(path, key, "name part must be no more than 63 characters")
    if not _QUALIFIED.match(name):
        yield wrong(path, key, NAME_RULE)


def labels(path: str, given: dict[str, str]) -> Iterator[Cause]:
    for key, value in given.items():
        yield from qualified(path, key)
        if len(value) > 63:
            yield wrong(path, value, "must be no more than 63 characters")
        if value and not _QUALIFIED.match(value):
            yield wrong(path, value, VALUE_RULE)


def meta_causes(kind: str, meta: Json) -> Iterator[Cause]:
    """Yield what is wrong with ``metadata``."""
    if not meta.get("name"):
        yield required("metadata.name", "name or generateName is required")
    else:
        yield from name_causes(kind, meta["name"])
    yield from labels("metadata.labels", meta.get("labels") or {})
    annotations = meta.get("annotations") or {}
    for key in annotations:
        yield from qualified("metadata.annotations", key.lower())
    if sum(len(k) + len(v) for k, v in annotations.items()) > LONGEST_ANNOTATIONS:
        yield Cause(
            "metadata.annotations", f"Too long: may not be more than {LONGEST_ANNOTATIONS} bytes",
            "FieldValueTooLong",
        )  # fmt: skip
    for finalizer in meta.get("finalizers") or []:
        yield from qualified("metadata.finalizers", finalizer)
    owners = meta.get("ownerReferences") or []
    for i, owner in enumerate(owners):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield wrong(f"metadata.ownerReferences[{i}].{key}", "", f"{key} must not be empty")
    if sum(bool(owner.get("controller")) for owner in owners) > 1:
        yield wrong(
            "metadata.ownerReferences", "", "Only one reference can have Controller set to true"
        )
