"""The client and the watch of the adapter against a server that errs in every way it can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from heteroscale_scheduler_adapters.kubernetes.client import Client
from heteroscale_scheduler_adapters.kubernetes.connect import configuration
from heteroscale_scheduler_adapters.kubernetes.errors import GoneError
from heteroscale_scheduler_adapters.kubernetes.objects import name
from heteroscale_scheduler_adapters.kubernetes.resources import PODS
from heteroscale_scheduler_adapters.kubernetes.settings import read_settings
from heteroscale_scheduler_adapters.kubernetes.watch import Source, Watcher
from heteroscale_scheduler_adapters.port import SettingsError, UnavailableError
from tests.kubernetes.kube import Kube
from tests.kubernetes.server.faults import Fault, Wrong
from tests.kubernetes.server.serve import ApiServer
from tests.kubernetes.things import pod

WATCH = r"watch=true"


async def _client(kube: Kube, **requests: Any) -> Client:
    said = {"perSecond": 10_000, "burst": 10_000, **requests}
    settings = read_settings("east", {"kubeconfig": str(kube.config), "requests": said})
    return Client(await configuration(settings), settings.requests)


@pytest.fixture
async def client(small_kube: Kube) -> AsyncIterator[Client]:
    one = await _client(small_kube, pageSize=2)
    yield one
    await one.close()


def _watcher(client: Client, kube: Kube, **requests: Any) -> Watcher:
    settings = read_settings("east", {"requests": requests}).requests
    return Watcher(client, Source(PODS, kube.namespace), settings)


async def _named(watcher: Watcher, since: str, last: str) -> list[str]:
    """Return the names of pods that are told, each once, until ``last`` is."""
    found: list[str] = []
    async with aclosing(watcher.events(since)) as events:
        async for event in events:
            if event.kind == "put" and name(event.thing) not in found:
                found.append(name(event.thing))
            if last in found:
                break
    return found


async def _drained(events: AsyncIterator[object]) -> None:
    async for _ in events:
        pass


async def test_a_list_of_many_pages_is_whole(small_kube: Kube, client: Client) -> None:
    for n in range(5):
        small_kube.create(pod(f"p{n}"))
    assert small_kube.server
    small_kube.server.forget()
    found = await client.list(PODS, small_kube.namespace)
    assert [name(one) for one in found.items] == [f"p{n}" for n in range(5)]
    asked = [one for one in small_kube.server.seen() if one.path.endswith("/pods")]
    assert [one.query["limit"] for one in asked] == ["2", "2", "2"]


async def test_pages_that_ran_out_are_read_anew_and_never_told_in_part(
    small_kube: Kube, client: Client
) -> None:
    for n in range(5):
        small_kube.create(pod(f"p{n}"))
    assert small_kube.server
    small_kube.server.fault(Fault(Wrong.STATUS, path="continue=", code=410, times=1))
    assert len((await client.list(PODS, small_kube.namespace)).items) == 5
    small_kube.server.fault(Fault(Wrong.STATUS, path="continue=", code=410))
    with pytest.raises(UnavailableError, match="while its pages were read"):
        await client.list(PODS, small_kube.namespace)


@pytest.mark.parametrize("wrong", [Wrong.CUT, Wrong.TRUNCATED, Wrong.GARBAGE])
async def test_an_answer_that_is_none_is_no_answer(
    small_kube: Kube, client: Client, wrong: Wrong
) -> None:
    assert small_kube.server
    small_kube.server.fault(Fault(wrong, method="GET"))
    with pytest.raises(UnavailableError, match="list pods"):
        await client.list(PODS, small_kube.namespace)


async def test_a_server_that_errs_is_not_believed_and_says_when_to_come_again(
    small_kube: Kube, client: Client
) -> None:
    assert small_kube.server
    small_kube.server.fault(Fault(Wrong.STATUS, code=500))
    with pytest.raises(UnavailableError, match="HTTP 500"):
        await client.list(PODS, small_kube.namespace)
    small_kube.server.heal()
    small_kube.server.fault(Fault(Wrong.STATUS, method="GET", code=429, retry_after=3600))
    with pytest.raises(UnavailableError) as busy:
        await client.list(PODS, small_kube.namespace)
    assert busy.value.retry_after == 3600.0


async def test_who_is_turned_away_asks_again_when_he_was_told_to(
    small_kube: Kube, client: Client
) -> None:
    assert small_kube.server
    small_kube.server.forget()
    fault = small_kube.server.fault(Fault(Wrong.STATUS, code=429, retry_after=1, times=1))
    assert (await client.list(PODS, small_kube.namespace)).items == ()
    assert fault.hits == 1
    assert [one.code for one in small_kube.server.seen()] == [429, 200]


async def test_a_line_may_be_longer_than_any_buffer(small_kube: Kube, client: Client) -> None:
    since = (await client.list(PODS, small_kube.namespace)).revision
    small_kube.create(pod("large", annotations={"notes": "x" * 250_000}))
    small_kube.create(pod("last"))
    assert await _named(_watcher(client, small_kube), since, "last") == ["large", "last"]


@pytest.mark.parametrize("wrong", [Wrong.WATCH_CUT, Wrong.WATCH_GARBAGE, Wrong.WATCH_END])
async def test_a_watch_that_breaks_is_resumed_and_nothing_is_lost(
    small_kube: Kube, client: Client, wrong: Wrong
) -> None:
    since = (await client.list(PODS, small_kube.namespace)).revision
    assert small_kube.server
    fault = small_kube.server.fault(Fault(wrong, path=WATCH, events=1, times=2))
    for n in range(4):
        small_kube.create(pod(f"p{n}"))
    found = await _named(_watcher(client, small_kube), since, "p3")
    assert found == [f"p{n}" for n in range(4)]
    assert fault.hits == 2


async def test_a_watch_that_says_nothing_is_begun_anew(small_kube: Kube) -> None:
    client = await _client(small_kube, stall="200ms")
    try:
        since = (await client.list(PODS, small_kube.namespace)).revision
        assert small_kube.server
        fault = small_kube.server.fault(Fault(Wrong.WATCH_STALL, path=WATCH, times=1))
        watcher = _watcher(client, small_kube, stall="200ms")
        small_kube.create(pod("p0"))
        assert await _named(watcher, since, "p0") == ["p0"]
        assert fault.hits == 1
    finally:
        await client.close()


async def test_a_revision_that_is_forgotten_is_told_at_once(
    small_kube: Kube, client: Client
) -> None:
    since = (await client.list(PODS, small_kube.namespace)).revision
    small_kube.create(pod("p0"))
    small_kube.create(pod("p1"))
    assert small_kube.server
    small_kube.server.compact()
    with pytest.raises(GoneError):
        await _named(_watcher(client, small_kube), since, "p1")


async def test_a_watch_that_is_ended_as_forgotten_is_told(small_kube: Kube, client: Client) -> None:
    since = (await client.list(PODS, small_kube.namespace)).revision
    small_kube.create(pod("p0"))
    assert small_kube.server
    async with aclosing(_watcher(client, small_kube).events(since)) as events:
        await anext(events)
        small_kube.server.expire()
        with pytest.raises(GoneError):
            await _drained(events)


# ---- logging in ----------------------------------------------------------------------------------


@pytest.fixture
def guarded() -> Any:
    server = ApiServer(tls=True).start()
    yield server
    server.stop()


def _mounted(server: ApiServer, folder: Path, token: str) -> dict[str, str]:
    """Write what a pod has of its account, and return its environment."""
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(server.authority)
    host, _, port = server.url.removeprefix("https://").rpartition(":")
    return {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}


async def test_a_pod_logs_in_as_its_account(guarded: ApiServer, tmp_path: Path) -> None:
    token = guarded.token("system:serviceaccount:heteroscale:coordinator")
    environment = _mounted(guarded, tmp_path, token)
    settings = read_settings("east", {})
    client = Client(await configuration(settings, environment, tmp_path), settings.requests)
    try:
        with pytest.raises(Exception, match="coordinator"):
            await client.list(PODS)
    finally:
        await client.close()
    assert guarded.seen()[-1].user == "system:serviceaccount:heteroscale:coordinator"


async def test_a_token_that_was_changed_is_read_anew(guarded: ApiServer, tmp_path: Path) -> None:
    environment = _mounted(guarded, tmp_path, "token-of-before")
    settings = read_settings("east", {})
    client = Client(await configuration(settings, environment, tmp_path), settings.requests)
    try:
        with pytest.raises(UnavailableError, match="401"):
            await client.list(PODS)
        _mounted(guarded, tmp_path, guarded.token("system:serviceaccount:heteroscale:coordinator"))
        with pytest.raises(Exception, match="coordinator"):
            await client.list(PODS)
    finally:
        await client.close()


async def test_a_pod_without_an_account_is_told_what_is_missing(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    with pytest.raises(SettingsError, match="automountServiceAccountToken"):
        await configuration(read_settings("east", {}), environment, tmp_path)
