"""`POST /pd_role_switch`, as SGLang 0.5.21 and newer have it with `--enable-pd-role-switch`.

It refuses while anything is in flight, and answers success for the role it has. `/server_info` goes on
saying the launched role at the top; the live one stands in `internal_states`.
"""

from __future__ import annotations

from typing import Any

from heteroscale_workbench.engine_sim.engine import Engine
from heteroscale_workbench.engine_sim.settings import Mode

_ROLES = {"prefill": Mode.PREFILL, "decode": Mode.DECODE}


def switch(engine: Engine, asked: object) -> tuple[int, dict[str, Any]]:
    """Return status and body of the answer to a request whose body is ``asked``."""
    old = engine.settings.mode
    told = str(asked.get("new_role", "")).lower() if isinstance(asked, dict) else ""
    wrong = _why_not(engine, told)
    if not wrong and _ROLES[told] is not old:
        engine.become(_ROLES[told])
    answer = {
        "success": not wrong,
        "message": wrong or ("already in target role" if _ROLES[told] is old else "ok"),
        "old_role": old.value,
        "new_role": told,
        "safe_to_restore": bool(wrong),
    }
    return (400 if wrong else 200), answer


def _why_not(engine: Engine, told: str) -> str:
    if not engine.settings.role_switch:
        return "--enable-pd-role-switch is not set on this instance"
    if told not in _ROLES:
        return f"invalid new_role={told!r}"
    if engine.settings.mode is Mode.AGGREGATED:
        return "instance is not running in PD disaggregation mode"
    if engine.in_flight and _ROLES[told] is not engine.settings.mode:
        return "instance is not idle; drain all requests before switching"
    return ""
