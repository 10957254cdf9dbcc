"""What a coordinator's document says of its clusters: ``adapters: [{name, kind, options}]``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from heteroscale.documents import DocumentModel


class AdapterSettings(DocumentModel):
    """One cluster that a scheduler of its own runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    """What the cluster is called here: its nodes are `<name>/<node>`, and their `physical_cluster`."""
    kind: Annotated[str, Field(min_length=1)]
    """The adapter: `kubernetes`, `slurm`, `memory` (only played), or one that a package brings."""
    options: dict[str, Any] = {}
    """The adapter's own settings; its page says which there are."""
