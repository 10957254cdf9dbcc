"""Counts held by a coordinator: the service under test is given bounds that leave no choice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from heteroscale.convert import from_wire
from heteroscale.documents import read_documents, write_document
from heteroscale.words import InstanceState, Role
from heteroscale_workbench.cluster.operator import Error, Operator
from heteroscale_workbench.pressure.values import Counts, PressureError

POLL = 0.5


class Held:
    """A service of a coordinator, made to have what the test asks for."""

    def __init__(self, operator: Operator, document: dict[str, Any], patience: float) -> None:
        self._operator, self._document, self._patience = operator, document, patience

    @property
    def name(self) -> str:
        """The service's name."""
        return str(self._document["metadata"]["name"])

    async def hold(self, counts: Counts) -> None:
        """Apply bounds of exactly ``counts``, and return when so many are in service."""
        try:
            await self._operator.apply(write_document(pinned(self._document, counts)))
            async with asyncio.timeout(self._patience):
                while await self._serving() != counts:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise PressureError(
                f"{counts} were not in service after {self._patience:g} s: {await self._why_not()}"
            ) from None
        except Error as error:
            raise PressureError(f"the coordinator says: {error.details()}") from error

    async def _serving(self) -> Counts:
        instances = await self._operator.instances(self.name)
        found = Counter(
            from_wire(Role, one.role)
            for one in instances
            if from_wire(InstanceState, one.state) is InstanceState.IN_SERVICE
        )
        return Counts(found[Role.PREFILL], found[Role.DECODE])

    async def _why_not(self) -> str:
        decisions = await self._operator.decisions(self.name, most=1)
        return decisions[0].reason if decisions else "nothing was decided about it"


def pinned(document: dict[str, Any], counts: Counts) -> dict[str, Any]:
    """Return a service's document whose bounds and ratio leave ``counts`` alone."""
    spec = document["spec"]
    roles = {
        role: {**spec["roles"][role], "min": count, "max": count}
        for role, count in zip(("prefill", "decode"), counts, strict=True)
    }
    kept = {key: value for key, value in spec.items() if key != "maxGpus"}
    return {
        **document,
        "spec": {**kept, "roles": roles, "ratio": f"{counts.prefill}:{counts.decode}"},
    }


@asynccontextmanager
async def held_by(address: str, document: str, patience: float) -> AsyncIterator[Held]:
    """Hold a service of the coordinator at ``address``; at the end it has its own document again.

    Raises:
        PressureError: the coordinator cannot be asked.

    """
    async with Operator(address) as operator:
        try:
            yield Held(operator, read_documents(document)[0].data, patience)
        finally:
            try:
                await operator.apply(document)
            except Error as error:
                raise PressureError(
                    f"the service could not be given its own document again: {error.details()}; "
                    "apply it by hand"
                ) from error
