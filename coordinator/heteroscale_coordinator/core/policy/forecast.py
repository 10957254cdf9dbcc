"""The predictive floor: what demand is to be expected while a launch takes its time.

``expected = min(value + shortfall × value, (1 + max_raise) × now)``: the best model's value at the
horizon, and the error band on top, which is what its forecasts fell short by in the service's own
past. A quiet service's band is thin, a restless one's wide. The law only raises: it asks for more
once the expected demand would need a scale-out, and lets nobody leave who will be needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale.words import Role
from heteroscale_coordinator.core.memory.forecast import History, Outlook
from heteroscale_coordinator.core.policy.backtest import ENOUGH, judged
from heteroscale_coordinator.core.policy.claims import Floor, Need
from heteroscale_coordinator.core.policy.history import SLOT, horizons
from heteroscale_coordinator.core.policy.scene import Scene

_EXPECTED = "min(foreseen + shortfall * max(foreseen, least), (1 + most) * now)"
_NEEDED = "present + ceil(max(0, expected - supply) / target - 1e-9)"


@dataclass(frozen=True, slots=True)
class Expected:
    """Demand to be expected on a role, tokens/s, and what it is said from."""

    role: Role
    value: float
    outlook: Outlook

    @property
    def text(self) -> str:
        """The forecast in words."""
        seen = self.outlook
        return (
            f"{seen.now:.0f} → {seen.value:.0f} (up to {self.value:.0f}) tok/s on {self.role.value} "
            f"in {seen.ahead * SLOT:g} s by {seen.model}"
        )


def forecast_need(scene: Scene) -> Need | None:
    """Return what is to be launched now for the demand that is expected once it serves."""
    counts: dict[Role, int] = {}
    said = []
    for role in scene.leading_roles:
        found = _expected(scene, role, launch=True)
        supply = scene.loads[role].supply
        limit = (1 + scene.policy.tolerance_out) * supply.total
        if found is None or not supply.count or found.value <= limit:
            continue
        counts[role] = _needed(scene, found)
        said.append(found.text)
    scene.inputs["forecast"] = "; ".join(_shown(scene, role) for role in scene.leading_roles)
    if not counts:
        return None
    return Need({**scene.present, **counts}, f"expected is {' and '.join(said)}", "forecast")


def forecast_floor(scene: Scene) -> Floor | None:
    """Return the fewest that carry what is expected until those who leave could be back."""
    counts: dict[Role, int] = {}
    said = []
    for role in scene.leading_roles:
        found = _expected(scene, role, launch=False)
        if found is None:
            continue
        supply = scene.loads[role].supply
        fits = (n for n in range(1, supply.count) if found.value <= supply.least(n))
        counts[role] = next(fits, supply.count)
        said.append(f"{counts[role]} {role.value} for {found.text}")
    return Floor("forecast", counts, ", ".join(said)) if counts else None


def _needed(scene: Scene, found: Expected) -> int:
    supply = scene.loads[found.role].supply
    return int(
        scene.reckon(
            f"forecast_needed_{found.role.value}",
            _NEEDED,
            "instances",
            present=supply.count,
            expected=found.value,
            supply=supply.total,
            target=supply.next_target,
        )
    )


def _expected(scene: Scene, role: Role, *, launch: bool) -> Expected | None:
    """Return what is to be expected; None when switched off, or too little is known."""
    settings, history = scene.policy.forecast, _history(scene, role)
    found = history.out if launch else history.stay
    if not settings.enabled or found is None:
        return None
    value = scene.reckon(
        f"{role.value}_forecast" if launch else f"{role.value}_forecast_stay",
        _EXPECTED,
        "tok/s",
        foreseen=found.value,
        shortfall=found.shortfall if settings.band else 0.0,
        least=found.least,
        most=settings.max_raise,
        now=found.now,
    )
    return Expected(role, value, found)


def _history(scene: Scene, role: Role) -> History:
    return scene.memory.forecast.roles.get(role, History())


def _shown(scene: Scene, role: Role) -> str:
    """Return the forecast of one role in words, or why there is none."""
    history = _history(scene, role)
    found = _expected(scene, role, launch=True)
    if found is not None:
        seen = found.outlook
        if seen.model == "last":
            return f"{found.text}: no model beats the last value (off by {seen.error:.1%})"
        return f"{found.text}; off by {seen.error:.1%}, the last value by {seen.error_last:.1%}"
    if not scene.policy.forecast.enabled:
        return f"switched off for {role.value}"
    if history.means and history.means[-1] is None:
        return f"none for {role.value}: its demand was not heard"
    ahead = horizons(scene)[0].slots
    missing = ENOUGH - judged(history.means, ahead)
    if not history.means or judged(history.means, ahead) == 0:
        missing = ENOUGH + ahead - len(history.means)
    return f"none for {role.value}: {missing * SLOT / 60:.0f} min of history are missing"
