"""What every store promises, asked of each of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from heteroscale_coordinator.core.cordon import Cordon
from heteroscale_coordinator.core.events import Changes
from heteroscale_coordinator.core.memory import PolicyMemory
from heteroscale_coordinator.core.model import CommandState
from heteroscale_coordinator.edge.store import Snapshot, Store, StoreConflictError, StoreError
from tests.coordinator.store.providers import Provider, providers
from tests.coordinator.values import NOW, instance, inventory, order, service


@pytest.fixture(params=sorted(providers()))
def provider(request: pytest.FixtureRequest, tmp_path: Path) -> Provider:
    made: Provider = providers()[request.param](tmp_path / "data")
    return made


@pytest.fixture
def store(provider: Provider) -> Iterator[Store]:
    opened = provider.open()
    yield opened
    opened.close()


def whole() -> Changes:
    return Changes(
        {"chat": service(rich=True), "code": service("code", paused="by hand")},
        {f"i-{n}": instance(f"i-{n}") for n in range(50)},
        {"c-1": order()},
        {one.key: one for one in (Cordon("n-1", None, "broken fan", NOW), Cordon("n-1", 3))},
    )


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.load() == Snapshot()


def test_what_was_committed_is_there_after_a_restart(provider: Provider) -> None:
    first = provider.open()
    first.load()
    first.set_epoch(3)
    first.commit(whole(), NOW)
    first.save_inventory("agent-1", inventory())
    first.close()
    again = provider.open()
    found = again.load()
    again.close()
    made = whole()
    assert found.services == made.services
    assert found.instances == made.instances
    assert found.commands == made.commands
    assert found.cordons == made.cordons
    assert found.inventories == {"agent-1": inventory()}
    assert (found.epoch, found.last_now) == (3, NOW)


def test_a_loaded_snapshot_belongs_to_the_caller(store: Store) -> None:
    store.commit(whole(), NOW)
    store.load().services.clear()
    assert set(store.load().services) == {"chat", "code"}


def test_rows_are_replaced_and_deleted(store: Store) -> None:
    store.commit(whole(), NOW)
    ended = order(state=CommandState.DONE)
    store.commit(Changes({"code": None}, {"i-0": None, "never": None}, {"c-1": ended}), NOW + 1)
    found = store.load()
    assert set(found.services) == {"chat"}
    assert "i-0" not in found.instances
    assert len(found.instances) == 49
    assert found.commands == {"c-1": ended}


def test_time_never_goes_back(store: Store) -> None:
    store.commit(Changes(), NOW)
    store.commit(Changes(), NOW - 1000)
    assert store.load().last_now == NOW


def test_a_commit_that_fails_changes_nothing_at_all(store: Store) -> None:
    store.commit(whole(), NOW)
    before = store.load()
    poisoned = dataclasses.replace(service(), memory=PolicyMemory(launch_after=math.inf))
    with pytest.raises(StoreError):
        store.commit(Changes({"chat": poisoned}, {"i-1": None}, {"c-2": order("c-2")}), NOW + 9)
    assert store.load() == before
    store.commit(Changes(instances={"i-1": None}), NOW + 10)
    assert "i-1" not in store.load().instances


def test_a_full_disk_refuses_whole_commits_and_heals(provider: Provider, store: Store) -> None:
    store.commit(whole(), NOW)
    before = store.load()
    more = Changes(instances={f"more-{n}": instance(f"more-{n}") for n in range(2000)})
    provider.fill_disk(store)
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            store.commit(more, NOW + 1)
    assert store.load() == before
    provider.free_disk(store)
    store.commit(more, NOW + 2)
    assert len(store.load().instances) == 2050


def test_the_epoch_grows_and_may_be_repeated(store: Store) -> None:
    store.set_epoch(1)
    store.set_epoch(1)
    store.set_epoch(7)
    with pytest.raises(StoreConflictError, match="below"):
        store.set_epoch(6)
    assert store.load().epoch == 7


def test_once_a_rival_leads_nothing_more_is_written(provider: Provider, store: Store) -> None:
    store.load()
    store.set_epoch(1)
    rival = provider.rival()
    rival.load()
    rival.set_epoch(2)
    with pytest.raises(StoreConflictError, match="another coordinator leads"):
        store.commit(whole(), NOW)
    with pytest.raises(StoreConflictError):
        store.save_inventory("agent-1", inventory())
    with pytest.raises(StoreConflictError):
        store.set_epoch(3)
    found = rival.load()
    assert not found.services
    assert not found.inventories
    assert found.epoch == 2
    rival.commit(whole(), NOW)
    rival.close()


def test_inventories_are_replaced(store: Store) -> None:
    store.save_inventories({f"agent-{n}": inventory() for n in range(100)})
    store.save_inventory("agent-3", inventory("newer"))
    found = store.load().inventories
    assert len(found) == 100
    assert found["agent-3"].hash == "newer"


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.load()
    with pytest.raises(StoreError, match="closed"):
        store.commit(Changes(), NOW)
    store.close()
