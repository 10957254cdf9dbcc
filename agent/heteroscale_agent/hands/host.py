"""The hands of a real host: processes, gates and readiness over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from heteroscale_agent.config import AgentSpec
from heteroscale_agent.hands import gates, procfs
from heteroscale_agent.hands.http import Client, HttpError, client, exchange
from heteroscale_agent.hands.port import Hands
from heteroscale_agent.hands.process import HostProcesses
from heteroscale_agent.hands.roles import HttpRoles

MAX_PROBE_BYTES = 64 * 1024


class HttpProbe:
    """Ready is HTTP 200."""

    def __init__(self, http: Client) -> None:
        self._http = http

    async def ready(self, url: str, deadline: float) -> bool:
        """Return whether ``url`` answers 200 in time with a short body."""
        try:
            status, _ = await exchange(
                self._http, "GET", url, deadline=deadline, limit=MAX_PROBE_BYTES
            )
        except HttpError:
            return False
        return status == HTTPStatus.OK

    async def close(self) -> None:
        """Do nothing: no connection is kept."""


def host_hands(spec: AgentSpec, clock: Callable[[], float]) -> Hands:
    """Return the hands that ``spec`` describes."""
    log_dir = spec.log_dir or spec.state_dir / "engines"
    gate_dir = spec.gate_dir or spec.state_dir / "gates"
    http = client()
    return Hands(
        processes=HostProcesses(log_dir, home=spec.state_dir),
        gates=gates.kinds(clock, spec, gate_dir, http),
        probe=HttpProbe(http),
        roles=HttpRoles(http),
        boot_id=procfs.boot_id(),
    )
