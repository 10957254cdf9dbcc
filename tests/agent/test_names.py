"""Names whose lookup hangs, fails or answers: nobody else waits, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from heteroscale_agent.exchange import ExchangeError, exchange
from heteroscale_agent.names import Names
from tests.agent.metrics_server import MetricsServer, metrics_server

LONG = 20.0


class Resolver:
    """Knows some names; those in ``hangs`` hang until the test ends."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {"here": ("127.0.0.1",)}
        self.hangs: set[str] = set()
        self.asked: list[str] = []
        self.release = threading.Event()

    def __call__(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        if host in self.hangs:
            self.release.wait()
        if host not in self.known:
            raise OSError(f"{host}: name not known")
        return self.known[host]


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.release.set()


async def get(url: str, names: Names, deadline: float = LONG) -> tuple[int, bytes]:
    return await exchange("GET", url, deadline=deadline, limit=1000, names=names)


def named(server: MetricsServer, host: str) -> str:
    return server.url.replace("127.0.0.1", host)


async def test_an_address_is_its_own_answer(resolver: Resolver) -> None:
    names = Names(resolver)
    assert await names.addresses("10.0.0.7") == ("10.0.0.7",)
    assert await names.addresses("fe80::1") == ("fe80::1",)
    assert resolver.asked == []


async def test_a_name_is_asked_for_anew_each_time(resolver: Resolver) -> None:
    names = Names(resolver)
    assert await names.addresses("here") == ("127.0.0.1",)
    resolver.known["here"] = ("127.0.0.2",)
    assert await names.addresses("here") == ("127.0.0.2",)


async def test_a_name_that_hangs_ends_by_the_deadline_and_delays_no_other(
    resolver: Resolver,
) -> None:
    resolver.hangs = {f"hangs-{number}" for number in range(50)}
    names = Names(resolver)
    async with metrics_server() as server:
        server.says("a 1\n")
        # More than asyncio's own pool has threads, which all of asyncio shares.
        stuck = [asyncio.create_task(get(named(server, host), names)) for host in resolver.hangs]
        with pytest.raises(ExchangeError, match="no whole answer within"):
            await get(named(server, "hangs-0"), names, deadline=0.1)
        assert await get(named(server, "here"), names) == (200, b"a 1\n")
        assert await asyncio.to_thread(lambda: 5) == 5
        resolver.known |= dict.fromkeys(resolver.hangs, ("127.0.0.1",))
        resolver.release.set()
        assert await asyncio.gather(*stuck) == [(200, b"a 1\n")] * 50


async def test_a_name_that_hangs_is_asked_for_once(resolver: Resolver) -> None:
    resolver.hangs = {"slow"}
    resolver.known["slow"] = ("127.0.0.1",)
    names = Names(resolver)
    async with metrics_server() as server:
        for _ in range(3):
            with pytest.raises(ExchangeError):
                await get(named(server, "slow"), names, deadline=0.05)
        assert resolver.asked == ["slow"]
        waiting = asyncio.create_task(get(named(server, "slow"), names))
        resolver.release.set()
        assert (await waiting)[0] == 200


async def test_a_name_that_is_not_known_is_no_answer(resolver: Resolver) -> None:
    with pytest.raises(ExchangeError, match="OSError: nobody: name not known"):
        await get("http://nobody:1/", Names(resolver))


async def test_every_address_of_a_name_is_tried(resolver: Resolver) -> None:
    # Nobody listens on the first: this server has its port on 127.0.0.1 alone.
    resolver.known["two"] = ("127.0.0.9", "127.0.0.1")
    async with metrics_server() as server:
        server.says("a 1\n")
        assert await get(named(server, "two"), Names(resolver)) == (200, b"a 1\n")


def test_a_loop_that_ended_while_a_name_hung_takes_nothing_from_the_next(
    resolver: Resolver,
) -> None:
    resolver.hangs = {"slow"}
    resolver.known["slow"] = ("127.0.0.1",)
    names = Names(resolver)

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(names.addresses("slow"), 0.05)

    asyncio.run(give_up())
    resolver.hangs.clear()
    ask: Callable[[], tuple[str, ...]] = lambda: asyncio.run(names.addresses("slow"))  # noqa: E731
    assert ask() == ("127.0.0.1",)


async def test_the_systems_names() -> None:
    assert "127.0.0.1" in await Names().addresses("localhost")
