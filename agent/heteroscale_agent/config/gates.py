"""Gates: how traffic is let in and kept out, as far as this host must be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from heteroscale.documents import DocumentModel, Duration


class Hook(DocumentModel):
    """Commands a `hook` gate runs; {instance_id}, {endpoint}, {role} and {service} are filled in.

    `check` exits 0 when traffic reaches the instance, 1 when it does not; anything else is unknown.
    """

    open: Annotated[tuple[str, ...], Field(min_length=1)]
    """Lets traffic in; exit code 0 means it was done."""
    close: Annotated[tuple[str, ...], Field(min_length=1)]
    """Keeps traffic out; no drain goes on before it was done."""
    check: tuple[str, ...] = ()
    """Asked every `reconcileInterval`. Without it `open` and `close` are believed."""
    timeout: Duration = 10.0
    """A command that takes longer is killed."""
