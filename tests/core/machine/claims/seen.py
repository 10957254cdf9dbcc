"""Claims about the view of the fleet that the turn keeps."""

from __future__ import annotations

from heteroscale_coordinator.core import sites
from heteroscale_coordinator.core.draft import Draft
from tests.core.machine.claims.facts import Ledger
from tests.core.machine.unruly import Turn


def what_placement_sees_of_every_node_is_what_the_state_says(turn: Turn, _: Ledger) -> None:
    """Read node by node as they change, it is what reading all of them anew gives."""
    draft = Draft(turn.state, turn.now, str)
    assert list(sites.view(draft)) == sites.nodes(draft)


SEEN = (what_placement_sees_of_every_node_is_what_the_state_says,)
