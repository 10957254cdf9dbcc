"""The `demo` profile: the house's configured durations, divided, and a service that uses them.

Real cooldowns are minutes; the demo has three. Every duration of the policy and the drain is its
default divided by one number, with floors where a two-core machine needs time to breathe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic.alias_generators import to_camel

from heteroscale.documents import format_duration
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import DrainSpec, GuardSpec, PolicySpec

SERVICE = "chat"
RATIO = 0.5
"""Prefill per decode instance."""
PROMPT = 256.0
OUTPUT = 60.0
"""Mean tokens of a request; traces are scaled to them, because the simulated engines are slow."""
TARGET_DECODE = {"H20": 140.0, "L20": 90.0}
TARGET_PREFILL = {"H20": 1300.0, "L20": 1100.0}

_FLOORS: Mapping[str, float] = {
    "window_out": 3.0,
    "window_in": 5.0,
    "backlog_horizon": 5.0,
    "freshness": 4.0,
    "observation": 12.0,
    "settle": 0.5,
    "grace": 5.0,
    "lease": 8.0,
    "force_after": 120.0,
    "startup": 4.0,
}


@dataclass(frozen=True, slots=True)
class DemoProfile:
    """How the demo divides time, and how large it is."""

    divisor: float = 20.0
    agents: int = 8
    gpus_per_agent: int = 2
    max_prefill: int = 4
    max_decode: int = 8
    startup: float = 2.0
    """Seconds an engine takes to load its weights."""
    wait_for_requests: bool = True
    """False switches every wait before TERM off (observation, settle, quiescence): requests are then
    cut, and the demo must fail."""

    def divided(self, name: str, seconds: float) -> float:
        """Return a configured duration as the demo uses it."""
        return max(seconds / self.divisor, _FLOORS.get(name, 0.0))

    def rules(self) -> Rules:
        """Return the coordinator's rules."""
        return Rules(
            tick=0.5,
            report_interval=0.5,
            silent_after=4.0,
            lost_after=12.0,
            cover_for=35.0,
            command_deadline=20.0,
            launch_backoff=1.0,
        )

    def policy(self) -> dict[str, object]:
        """Return the policy part of the service."""
        defaults = PolicySpec()
        names = (
            *("window_out", "window_in", "hold", "cooldown_out", "cooldown_in"),
            *("backlog_horizon", "observation", "freshness"),
        )
        plain: dict[str, object] = {
            to_camel(name): format_duration(self.divided(name, getattr(defaults, name)))
            for name in names
        }
        startup = self.divided("startup", GuardSpec().startup)
        if not self.wait_for_requests:
            plain["observation"] = "0s"
        return plain | {"guard": {"startup": format_duration(startup)}}

    def drain(self) -> dict[str, object]:
        """Return the drain part of the service."""
        defaults = DrainSpec()
        plain: dict[str, object] = {
            to_camel(name): format_duration(self.divided(name, getattr(defaults, name)))
            for name in ("settle", "force_after", "grace", "lease")
        }
        if not self.wait_for_requests:
            plain |= {"settle": "0s", "forceAfter": "0s", "grace": "0s"}
        return plain

    def service(self, routers: list[str], name: str = SERVICE) -> dict[str, object]:
        """Return the service's document as plain data."""
        roles = {
            "prefill": {
                "template": "prefill",
                "gpuTypes": ["L20", "H20"],
                "min": 1,
                "max": self.max_prefill,
                "target": TARGET_PREFILL,
                "startupTimeout": "40s",
            },
            "decode": {
                "template": "decode",
                "gpuTypes": ["H20", "L20"],
                "min": 2,
                "max": self.max_decode,
                "target": TARGET_DECODE,
                "startupTimeout": "40s",
            },
        }
        return {
            "apiVersion": "heteroscale/v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "roles": roles,
                "ratio": RATIO,
                "slo": {"ttft": "3s", "tbt": "250ms"},
                "policy": self.policy(),
                "drain": self.drain(),
                "placement": {"affinity": "s1"},
                "gate": {"kind": "sglang-router", "routers": routers},
            },
        }
