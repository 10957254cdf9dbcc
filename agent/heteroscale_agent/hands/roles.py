"""Asks an SGLang engine to switch between prefill and decode, and which of them it is.

As in its source (0.5.21 and newer, `--enable-pd-role-switch`): `POST /pd_role_switch` takes
`{"new_role"}` and answers `{"success", "message", "old_role", "new_role"}`, 200 or 400, newer ones with
`safe_to_restore`. It refuses while anything is in flight, and answers success when it has the role
already. A rebuild that failed leaves it unfit to serve: "unhealthy, restart required". `/server_info`
shows the role it was launched in at the top, and the live one in each of `internal_states`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from heteroscale.words import Role
from heteroscale_agent.hands.http import Client, HttpError, exchange, parse_object
from heteroscale_agent.hands.port import RoleAnswer

MAX_INFO_BYTES = 4 * 1024 * 1024
_ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
_UNDER_WAY = "in progress"
_LATER = ("not idle", _UNDER_WAY)
_BROKEN = ("unhealthy", "restart", "raised")
_ROLES = {"prefill": Role.PREFILL, "decode": Role.DECODE}


class HttpRoles:
    """Speaks SGLang's interface."""

    def __init__(self, http: Client) -> None:
        self._http = http

    async def switch(
        self, url: str, role: Role, more: Mapping[str, Any], deadline: float
    ) -> RoleAnswer:
        """Ask the engine to become ``role``; asking again for what it is harms nothing."""
        body = {**more, "new_role": role.value}
        try:
            status, data = await exchange(
                self._http, "POST", url, deadline=deadline, body=body, limit=MAX_INFO_BYTES
            )
            if status in _ABSENT:
                return RoleAnswer(
                    done=False, message=f"HTTP {status}: it has no such interface", intact=True
                )
            told = parse_object(data)
        except HttpError as error:
            return RoleAnswer(done=False, message=str(error)[:200], later=True)
        return _answer(status, told, role)

    async def role(self, url: str, deadline: float) -> Role | None:
        """Return the live role of every scheduler, where they agree."""
        try:
            status, data = await exchange(
                self._http, "GET", url, deadline=deadline, limit=MAX_INFO_BYTES
            )
            told = parse_object(data)
        except HttpError:
            return None
        states = told.get("internal_states")
        if status != HTTPStatus.OK or not isinstance(states, list) or not states:
            return None
        live = {s.get("disaggregation_mode") if isinstance(s, dict) else None for s in states}
        return _ROLES.get(str(live.pop())) if len(live) == 1 else None


def _answer(status: int, told: Mapping[str, Any], role: Role) -> RoleAnswer:
    message = str(told.get("message", ""))[:200]
    if status == HTTPStatus.OK and told.get("success") is True:
        if told.get("new_role") == role.value:
            return RoleAnswer(done=True, message=message)
        return RoleAnswer(done=False, message="it answers for another role", later=True)
    if "success" not in told:
        # Some other program's error, or the server's own: the scheduler may never have heard of it.
        return RoleAnswer(done=False, message=f"HTTP {status}: {message}".strip(": "), later=True)
    if any(word in message for word in _LATER):
        # While it is at it, what it says it is may be another role a moment later.
        intact = False if _UNDER_WAY in message else None
        return RoleAnswer(done=False, message=message, later=True, intact=intact)
    safe = told.get("safe_to_restore")
    broken = any(word in message for word in _BROKEN)
    intact = safe if isinstance(safe, bool) else not broken
    return RoleAnswer(done=False, message=message or f"HTTP {status}", intact=intact)
