"""A loop that tests drive by hand: real wishes, a real feed, no clock and no store."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from heteroscale_coordinator.core.draft import Draft
from heteroscale_coordinator.core.events import Answer, Changes, Wish
from heteroscale_coordinator.core.state import State
from heteroscale_coordinator.core.wishes import grant
from heteroscale_coordinator.edge.feed import Feed, Subscription
from heteroscale_coordinator.edge.ports import LoopStatus
from tests.coordinator.values import NOW, instance, inventory, service


class TwinLoop:
    """Commits each wish at once. ``trouble`` refuses wishes; ``before`` runs ahead of each."""

    def __init__(self) -> None:
        self.state = State()
        self.state.begin(NOW)
        self.now = NOW
        self.trouble: dict[str, str] = {}
        """By service name, or "" for every wish: why it is refused."""
        self.wishes: list[Wish] = []
        self.not_ready: tuple[str, ...] = ()
        self.stuck = ""
        self.before: Callable[[Wish], None] = lambda _: None
        self.feed = Feed()
        self._ids = count()

    def status(self) -> LoopStatus:
        return LoopStatus(self.now, self.not_ready, 3, self.stuck)

    def subscribe(self) -> Subscription:
        return self.feed.subscribe()

    async def submit(self, wish: Wish) -> Answer:
        self.before(wish)
        why = self.trouble.get(getattr(wish, "name", ""), self.trouble.get(""))
        if why:
            raise RuntimeError(why)
        self.wishes.append(wish)
        draft = Draft(self.state, self.now, lambda kind: f"{kind}-{next(self._ids)}")
        grant(draft, wish)
        self.commit(draft.changes)
        return next(e for e in draft.changes.effects if isinstance(e, Answer))

    def commit(self, changes: Changes) -> None:
        self.state.apply(changes)
        self.feed.publish(changes, self.now)

    def populate(self) -> None:
        """A service of four instances on two heard agents of one minipod."""
        self.commit(
            Changes(
                {"chat": service()},
                {row.instance_id: row for row in (instance(f"i-{n}") for n in range(1, 4))},
            )
        )
        for name in ("agent-1", "agent-2"):
            agent = self.state.agent(name, self.now)
            agent.heard = agent.connected = True
            agent.hostname, agent.version = f"host-{name[-1]}", "0.1.0"
            agent.inventory = inventory()
