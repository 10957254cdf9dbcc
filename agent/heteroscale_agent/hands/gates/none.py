"""No gate: the instance is found by other means, and what is wanted counts as done."""

from __future__ import annotations

from heteroscale_agent.hands.gates.port import Member, View


class NoGate:
    """Confirms whatever is wanted."""

    def complaint(self, member: Member) -> str:
        """Return nothing: there is nothing to get wrong."""
        del member
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Return a view without places, which confirms both wishes."""
        del member, wanted_in
        return View({})

    async def close(self) -> None:
        """Do nothing."""
