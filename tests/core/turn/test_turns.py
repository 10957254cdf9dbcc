"""Who leaves of an object with ordinals: the highest, as many as were chosen, or nobody."""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.carry import in_turn
from heteroscale_coordinator.core.draft import Draft
from tests.core.turn.rig import draft, up


def world(*states: S) -> tuple[Draft, list[str]]:
    """Return a draft in which two decodes and a prefill serve, the decodes as 0, 1 … of one object.

    ``states``: of further ones.
    """
    made = draft(up(2, 1))
    first, second = sorted(
        i.instance_id for i in made.instances_of("chat") if i.role is Role.DECODE
    )
    ids = [first, second]
    for number, state in enumerate(states, start=2):
        key = f"more-{number}"
        one = made.instance(second)
        assert one is not None
        made.put_instance(replace(one, instance_id=key, state=state))
        ids.append(key)
    for number, key in enumerate(ids):
        one = made.instance(key)
        assert one is not None
        made.put_instance(replace(one, turn=("StatefulSet chat", number)))
    return made, ids


def left(made: Draft, *chosen: str) -> tuple[str, ...]:
    service = made.service("chat")
    assert service is not None
    return in_turn(made, service, chosen)


def test_the_highest_leave_and_others_as_chosen() -> None:
    made, ids = world(S.IN_SERVICE)
    prefill = next(i.instance_id for i in made.instances_of("chat") if i.role is Role.PREFILL)
    assert left(made, ids[0], prefill) == (prefill, ids[2])
    assert left(made, ids[0], ids[1]) == (ids[2], ids[1])
    assert left(made, prefill, "gone") == (prefill, "gone")


def test_those_that_leave_already_keep_nobody() -> None:
    made, ids = world(S.DRAINING, S.TERMINATED, S.FAILED, S.LOST)
    assert left(made, ids[0]) == (ids[1],)


def test_nobody_leaves_before_one_that_cannot() -> None:
    for state in (S.LAUNCHING, S.WARMING, S.WITHDRAWN, S.UNKNOWN):
        made, ids = world(state)
        assert left(made, ids[0]) == (), state
