"""One request, taken apart; and what all rooms of the server share."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from tests.kubernetes.server.errors import Json
from tests.kubernetes.server.kinds import Kind, Kinds
from tests.kubernetes.server.store import Store

ADMIN = "system:admin"
CONTROLLER = "system:kube-controller-manager"
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Shared:
    """What is one for the whole server. ``clock`` is read for time stamps alone."""

    store: Store = field(default_factory=Store)
    clock: Callable[[], datetime] = _now
    dice: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311

    def __post_init__(self) -> None:
        self.kinds = Kinds(self.store)

    def stamp(self) -> str:
        return self.clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    def suffix(self, length: int = 5) -> str:
        """Return letters as the real server appends to a generateName."""
        return "".join(self.dice.choice(_LETTERS) for _ in range(length))

    @staticmethod
    def uid() -> str:
        return str(uuid.uuid4())


def truth(query: Mapping[str, str], name: str) -> bool:
    """Return a yes or no of a query, in any of the spellings that Go's ParseBool takes."""
    return query.get(name, "") in {"1", "t", "T", "true", "TRUE", "True"}


@dataclass(frozen=True)
class Call:
    """What is asked of one kind."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    sub: str = ""
    """Subresource."""
    query: Mapping[str, str] = field(default_factory=dict)
    user: str = ADMIN
    agent: str = ""
    """First word of the User-Agent: whoever names no fieldManager is called so."""

    @property
    def dry(self) -> bool:
        return self.query.get("dryRun") == "All"

    @property
    def manager(self) -> str:
        return self.query.get("fieldManager") or self.agent.split("/")[0] or "unknown"

    @property
    def strictness(self) -> str:
        """Ignore, Warn or Strict."""
        return self.query.get("fieldValidation") or "Warn"

    def on(self, name: str, sub: str = "") -> Call:
        return replace(self, name=name, sub=sub)

    def key(self, obj: Json | None = None) -> tuple[str, str]:
        name = obj["metadata"]["name"] if obj else self.name
        return (self.namespace if self.kind.namespaced else "", name)
