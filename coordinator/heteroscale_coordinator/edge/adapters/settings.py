"""What a coordinator's document says of its clusters: ``adapters: [{name, kind, options}]``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from heteroscale.documents import DocumentModel
from heteroscale.documents.fields import Duration
from heteroscale_coordinator.edge.adapters.pace import Pace

_PACE = Pace()
Positive = Annotated[Duration, Field(gt=0)]


class PaceSettings(DocumentModel):
    """How often one cluster's scheduler is asked, and how long its answers are waited for."""

    look: Positive = _PACE.look
    """Between looks at a cluster that tells no changes by itself, as Slurm."""
    look_watched: Positive = _PACE.look_watched
    """Between whole looks at one that does, as Kubernetes: what its watch lost is put right by then."""
    answer: Positive = _PACE.answer
    """One call may take so long; then its answer is unknown, and it is asked anew."""
    patience: Positive = _PACE.patience
    """Looks may fail so long before nothing new is ordered there."""

    def pace(self) -> Pace:
        """Return it as the driver takes it."""
        return Pace(
            look=self.look,
            look_watched=self.look_watched,
            answer=self.answer,
            patience=self.patience,
        )


class AdapterSettings(DocumentModel):
    """One cluster that a scheduler of its own runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    """What the cluster is called here: its nodes are `<name>/<node>`, and their `physical_cluster`."""
    kind: Annotated[str, Field(min_length=1)]
    """The adapter: `kubernetes`, `slurm`, `memory` (only played), or one that a package brings."""
    options: dict[str, Any] = {}
    """The adapter's own settings; its page says which there are."""
    pace: PaceSettings = PaceSettings()
