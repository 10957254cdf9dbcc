"""What is played on each traffic: the joint policy as it is and otherwise, as it was, and rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from heteroscale_simulator.policies.registry import KNOWN

RIVALS = [name for name in KNOWN if name != "joint"]
FORECAST: Mapping[str, Any] = {"forecast": {"enabled": True}}
NO_RESERVE: Mapping[str, Any] = {"reserve": {"deviations": 0}}


@dataclass(frozen=True, slots=True)
class Variant:
    """A column of the comparison."""

    name: str
    policy: str = "joint"
    """As the simulator calls it."""
    fixed: bool = False
    """Whether it holds the one ratio that the pressure test found, instead of the band."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of ``spec.policy``, from the defaults."""
    before: bool = False
    """Whether it is the policy of another revision."""

    @property
    def rival(self) -> bool:
        """Whether it reads nothing of the service's policy, so that several share a run."""
        return self.policy != "joint"

    def document(self, service: str, ratio: str) -> str:
        """Return the service's text as this variant wants it; ``ratio`` is the tested one."""
        if not self.fixed and not self.changes:
            return service
        data = yaml.safe_load(service)
        if self.fixed:
            data["spec"]["ratio"] = ratio
        if self.changes:
            data["spec"]["policy"] = {**data["spec"].get("policy", {}), **self.changes}
        return yaml.safe_dump(data, sort_keys=False)


JOINT = Variant("joint")
HPA = Variant("hpa", "hpa")
BEFORE = Variant("before", before=True)
OWN = (
    JOINT,
    Variant("joint-fixed", fixed=True),
    Variant("joint+forecast", changes=FORECAST),
    Variant("joint-reserve", changes=NO_RESERVE),
    Variant("joint+forecast-reserve", changes={**FORECAST, **NO_RESERVE}),
    BEFORE,
    Variant("before-fixed", fixed=True, before=True),
)
DEFAULT = "joint,joint-fixed,before,hpa,static-peak,oracle-free,oracle-fixed"


def variants(text: str) -> list[Variant]:
    """Return what a list of names means; a name that is none of ours is a rival's.

    Raises:
        ValueError: nobody has that name, or there is none.

    """
    known = {one.name: one for one in (*OWN, *(Variant(name, name) for name in RIVALS))}
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    strange = [name for name in names if name not in known]
    if strange or not names:
        raise ValueError(
            f"--policies {text}: {', '.join(strange) or 'none'}; known: {', '.join(known)}"
        )
    return [known[name] for name in names]
