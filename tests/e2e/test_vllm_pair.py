"""A real vLLM prefill/decode pair over NIXL: when a prefill that holds KV may be stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heteroscale.words import InstanceState, Role
from heteroscale_workbench.demo.profile import SERVICE
from tests.e2e import vllm
from tests.e2e.pair_proxy import PairProxy
from tests.e2e.stage import MODEL, Stage, layout, playing, service
from tests.process.fleet import Seen

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]
_S = InstanceState
KV_LEASE = 300
"""Seconds that a prefill keeps KV for a decode that does not come. vLLM's default, 30, would end before
a decode that shares two busy cores with its prefill has come; what a first handshake that took too
long has left behind must be gone within the test's patience."""
REQUESTS = 10
HELD_FOR = 4
"""Fresh scrapes for which a drain is watched not to end; with three quiet ones it would."""
FETCHED = r"vllm:prompt_tokens_by_source_total{.*external_kv_transfer.*}"


class Pair:
    """One prefill, one decode, and what flows between them."""

    def __init__(self, stage: Stage, proxy: PairProxy) -> None:
        self.stage, self.proxy = stage, proxy
        self._asked = 0

    async def up(self) -> tuple[Seen, Seen]:
        """Wait until both are in service and the gate says so; return (prefill, decode)."""
        both = {role: Role(role) for role in ("prefill", "decode")}

        async def there() -> bool:
            serving = await self.stage.instances(_S.IN_SERVICE)
            listed = {role: self.proxy.members(role) for role in both}
            return listed == {
                r: [s.endpoint for s in serving if s.role == r] for r in both
            } and all(listed.values())

        await self.stage.wait(there, "a prefill and a decode in service")
        seen = {one.role: one for one in await self.stage.instances(_S.IN_SERVICE)}
        return seen[Role.PREFILL], seen[Role.DECODE]

    async def alone(self, endpoint: str, prompt: str) -> str:
        """Return what one engine says by itself."""
        return await self.proxy.text(endpoint, _body(prompt), self._id())

    async def hold(self, prefill: Seen, prompt: str) -> Callable[[Seen], Any]:
        """Let a prefill hold a prompt's KV; the result lets a decode fetch it and returns its text."""
        handed = await self.proxy.prefill(prefill.endpoint, _body(prompt), self._id())

        async def fetch(decode: Seen) -> str:
            body = {**_body(prompt), "kv_transfer_params": handed}
            return await self.proxy.text(decode.endpoint, body, self._id())

        return fetch

    async def kv_usage(self, instance: Seen) -> float:
        """Return an engine's own KV usage."""
        return await self.stage.metric(instance, "vllm:kv_cache_usage_perc")

    async def quiet(self, instance: Seen) -> bool:
        """Whether an engine shows nothing running and nothing waiting."""
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        return sum([await self.stage.metric(instance, name) for name in names]) == 0

    async def is_held(self, instance: Seen) -> bool:
        """Whether a drain waits for nothing but KV that nobody has fetched."""
        seen = await self.stage.instance(instance.id)
        return seen.state is _S.DRAINING and "decoders may still fetch it" in seen.message

    def scrapes(self, instance: Seen) -> int:
        """Return how often an engine was scraped, by its own log."""
        (log,) = self.stage.cluster.directory.glob(f"*/state/engines/{instance.id}.log")
        return log.read_text("utf-8", "replace").count('"GET /metrics ')

    def _id(self) -> str:
        self._asked += 1
        return f"asked-{self._asked}"


async def test_a_prefill_is_stopped_only_when_its_kv_was_fetched(tmp_path: Path) -> None:
    engine = vllm.engine(tmp_path, kv_lease=KV_LEASE)
    gate = tmp_path / "agent-0" / "state" / "gates" / "pair.json"
    async with playing(layout(tmp_path, engine), engine) as stage, PairProxy(gate) as proxy:
        roles = {
            role: {"template": f"vllm-{role}", "startupTimeout": "6m"}
            for role in ("prefill", "decode")
        }
        kind = {"kind": "file", "options": {"path": gate.name}}
        await stage.operator.apply(service(roles, kind, ratio={"min": 0.1, "max": 10.0}))
        pair = Pair(stage, proxy)
        prefill, decode = await pair.up()
        # What follows is an operator's doing alone.
        await stage.operator.pause(SERVICE)
        await _kv_is_handed_over(pair, prefill, decode)
        await _a_drain_waits_for_the_fetch(pair, prefill, decode)


async def _kv_is_handed_over(pair: Pair, prefill: Seen, decode: Seen) -> None:
    """Traffic flows through both, and what the decode says depends on the KV it fetched."""
    async with pair.stage.traffic(300, 16, pair.proxy.url) as traffic:
        traffic.keep(2, 300, 16)

        async def enough() -> bool:
            return traffic.run.snapshot().passed >= REQUESTS

        await pair.stage.wait(enough, f"{REQUESTS} answers from the pair")
    assert await pair.stage.metric(decode, FETCHED) > 0
    texts = {}
    for start in ("alpha", "omega"):
        prompt = _prompt(start)
        texts[start] = await (await pair.hold(prefill, prompt))(decode)
        assert texts[start] == await pair.alone(prefill.endpoint, prompt)
    assert texts["alpha"] != texts["omega"]
    await pair.stage.wait(lambda: _is_zero(pair, prefill), "all KV let go")


async def _a_drain_waits_for_the_fetch(pair: Pair, prefill: Seen, decode: Seen) -> None:
    prompt = _prompt("somebody comes late")
    alone = await pair.alone(prefill.endpoint, prompt)
    fetch = await pair.hold(prefill, prompt)
    await pair.stage.wait(lambda: pair.quiet(prefill), "a prefill with nothing to do")
    process = pair.stage.process(prefill.id)
    await pair.stage.operator.drain(prefill.id)
    await pair.stage.wait(lambda: pair.is_held(prefill), "the drain to wait for the KV")
    enough = pair.scrapes(prefill) + HELD_FOR

    async def held() -> bool:
        seen = await pair.stage.instance(prefill.id)
        assert (seen.state, process.is_running()) == (_S.DRAINING, True), seen.message
        return pair.scrapes(prefill) >= enough

    await pair.stage.wait(held, f"{HELD_FOR} scrapes")
    assert await pair.kv_usage(prefill) > 0
    before = await pair.stage.metric(decode, FETCHED)
    assert await fetch(decode) == alone
    assert await pair.stage.metric(decode, FETCHED) > before
    done = await pair.stage.until_state(prefill.id, _S.TERMINATED)
    assert not process.is_running(), done.message


async def _is_zero(pair: Pair, instance: Seen) -> bool:
    return await pair.kv_usage(instance) == 0


def _prompt(start: str) -> str:
    return start + " the" * 300


def _body(prompt: str) -> dict[str, Any]:
    return {
        "model": MODEL,
        "prompt": prompt,
        "max_tokens": 24,
        "temperature": 0,
        "ignore_eos": True,
    }
