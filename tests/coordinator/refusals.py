"""Calls that must be refused."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""
