"""Changes of RDMA subgroup class: which nodes are of another class because of who came or went."""

from __future__ import annotations

from dataclasses import dataclass

from heteroscale_coordinator.core.topology import SubgroupClass


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A domain's nodes are of another RDMA subgroup class than before."""

    domain: str
    """Full name of the S1; of a node that names none, its agent."""
    before: SubgroupClass
    after: SubgroupClass
    agent_ids: tuple[str, ...]
    """Nodes that changed with it, in order; one that came only now has not changed."""

    def __str__(self) -> str:
        was, now = self.before.name.lower(), self.after.name.lower()
        return (
            f"{self.domain}: {len(self.agent_ids)} nodes are of {now} class now, they were of {was}"
        )


def together(
    gone: tuple[ClassChange, ...], come: tuple[ClassChange, ...]
) -> tuple[ClassChange, ...]:
    """Join the changes of a node's going and of its coming: what went there and back is none."""
    first: dict[str, ClassChange] = {}
    for change in (*gone, *come):
        had = first.get(change.domain)
        kept = (
            change
            if had is None
            else ClassChange(change.domain, had.before, change.after, change.agent_ids)
        )
        first[change.domain] = kept
    return tuple(one for one in first.values() if one.before is not one.after)
