"""What the demo saw: a sample twice a second, every decision, and the verdict over all of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from heteroscale.words import Role


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment. Rates are tokens per second; latencies seconds, None while unknown."""

    t: float
    phase: str
    offered: float
    """Output tokens per second that arriving requests ask for."""
    served: float
    in_flight: int
    ttft: float | None
    tbt: float | None
    prefill: dict[str, int]
    """Instances by state."""
    decode: dict[str, int]
    failed: int = 0

    def in_service(self, role: Role) -> int:
        """Return how many instances of a role are in service."""
        return (self.prefill if role is Role.PREFILL else self.decode).get("in_service", 0)

    @property
    def ratio(self) -> float | None:
        """Prefill per decode instance in service."""
        decode = self.in_service(Role.DECODE)
        return self.in_service(Role.PREFILL) / decode if decode else None


@dataclass(frozen=True, slots=True)
class Note:
    """A decision that did something."""

    t: float
    action: str
    reason: str
    prefill_delta: int
    decode_delta: int
    decision_id: str
    inputs: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Recording:
    """The whole run."""

    ratio: float
    samples: list[Sample] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    retried: int = 0
    unseen: int = 0
    """Passed requests that no engine noted: above zero, nobody watched for retries."""
    withdrawn: int = 0
    reinstated: int = 0

    def count(self, *actions: str) -> int:
        """Return how many decisions of these kinds there were."""
        return sum(note.action in actions for note in self.notes)

    def peak(self, role: Role) -> int:
        """Return the most instances of a role in service at one time."""
        return max((sample.in_service(role) for sample in self.samples), default=0)

    def ratio_error(self) -> float | None:
        """Return the mean of |P/D − ratio| ÷ ratio over samples with decode in service."""
        errors = [abs(s.ratio - self.ratio) / self.ratio for s in self.samples if s.ratio]
        return sum(errors) / len(errors) if errors else None

    def summary(self) -> dict[str, object]:
        """Return the figures that ``--json`` writes."""
        error = self.ratio_error()
        return {
            "requests": self.requests,
            "failed_requests": len(self.failures),
            "retried_requests": self.retried,
            "scale_outs": self.count("scale_out"),
            "scale_ins": self.count("scale_in"),
            "withdrawn": self.withdrawn,
            "reinstated": self.reinstated,
            "max_prefill": self.peak(Role.PREFILL),
            "max_decode": self.peak(Role.DECODE),
            "ratio_error_mean": None if error is None else round(error, 4),
            "seconds": round(self.samples[-1].t, 1) if self.samples else 0.0,
            "ok": not self.complaints(),
            "complaints": self.complaints(),
        }

    def complaints(self, *, with_load: bool = True) -> list[str]:
        """Return what the run should have shown and did not; empty: it passed."""
        found: list[str] = []
        for role in (Role.PREFILL, Role.DECODE):
            found += self._grew_and_shrank(role)
        if not self.withdrawn:
            found.append("nothing was withdrawn")
        if not self.reinstated:
            found.append("nothing was reinstated")
        if self.failures:
            found.append(f"{len(self.failures)} requests failed; the first: {self.failures[0]}")
        if self.retried:
            found.append(f"{self.retried} requests were retried")
        if self.unseen:
            found.append(f"retries were not watched: no engine noted {self.unseen} requests")
        if with_load and not self.requests:
            found.append("no request was sent")
        return found

    def _grew_and_shrank(self, role: Role) -> list[str]:
        counts = [sample.in_service(role) for sample in self.samples]
        ready = [count for count in counts if count]
        if not ready:
            return [f"{role} was never in service"]
        top = max(ready)
        after = counts[counts.index(top) :]
        found = []
        if top <= ready[0]:
            found.append(f"{role} never grew beyond {ready[0]}")
        elif min(after) >= top:
            found.append(f"{role} never shrank below {top}")
        return found
