"""The gate of anything else: commands of the agent's own configuration open, close and check it.

`gate.options` names hooks: `hook` for both ways, or `open` and `close` apart. With a `check` the
gate is level-triggered like any other. Without one, a command that succeeded is believed, and run
again only when the wish changes or the agent has restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

from heteroscale_agent.config import Hook
from heteroscale_agent.hands.gates.port import Member, View

_PLACE = "hook"
_SEEN: dict[int | None, bool] = {0: True, 1: False}


class HookGate:
    """Runs hooks, each in a session of its own, killed when it takes too long."""

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = hooks
        self._believed: dict[str, bool] = {}

    def complaint(self, member: Member) -> str:
        """Return which hook the configuration lacks, or nothing."""
        for way in ("open", "close"):
            name = self._name(member, way)
            if not name:
                return f"gate hook needs the option `hook`, or `{way}`"
            if name not in self._hooks:
                return f"no hook {name!r} in the agent's configuration"
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Check, and run the command that corrects; what was seen before is returned."""
        hook = self._hooks[self._name(member, "open" if wanted_in else "close")]
        if hook.check:
            seen = _SEEN.get(await _run(hook.check, member, hook.timeout))
        else:
            seen = self._believed.get(member.instance_id)
        if seen is wanted_in:
            return View({_PLACE: seen})
        # One that fails may have done it all the same, or half: then nothing is believed any more.
        self._believed.pop(member.instance_id, None)
        command = hook.open if wanted_in else hook.close
        code = await _run(command, member, hook.timeout)
        if code == 0 and not hook.check:
            self._believed[member.instance_id] = wanted_in
        message = "" if code == 0 else f"hook {command[0]}: {_said(code)}"
        return View({_PLACE: seen}, message)

    async def close(self) -> None:
        """Do nothing: hooks do not outlast a pass."""

    @staticmethod
    def _name(member: Member, way: str) -> str:
        options = member.gate.options
        return options.get(way) or options.get("hook", "")


def _said(code: int | None) -> str:
    return "took too long, or could not be started" if code is None else f"exit code {code}"


async def _run(command: tuple[str, ...], member: Member, limit: float) -> int | None:
    """Return the exit code, or None when it could not be started or took longer than ``limit``."""
    values = {
        "{instance_id}": member.instance_id,
        "{endpoint}": member.endpoint,
        "{role}": member.role.value,
        "{service}": member.service,
    }
    words = list(command)
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(limit):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
