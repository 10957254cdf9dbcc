"""All that is played beside the server."""

from __future__ import annotations

import asyncio

from tests.kubernetes.played.base import Play
from tests.kubernetes.played.basics import Accounts, Definitions, Namespaces, Quotas, Rubbish
from tests.kubernetes.server.calls import Shared


def play(shared: Shared) -> None:
    """Have all controllers run on the server's loop; to be called on its thread."""
    whole = Play(shared, [Accounts(), Definitions(), Quotas(), Namespaces(), Rubbish()])
    whole.on(asyncio.get_running_loop())
