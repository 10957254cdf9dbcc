"""Unknown is not zero: what nobody told takes nothing away, and a partition is no death."""

from __future__ import annotations

from heteroscale.words import InstanceState as S
from heteroscale.words import Role
from heteroscale_coordinator.core.model import Action, Instance, Service
from heteroscale_coordinator.core.track import Track
from tests.core.machine.claims.facts import Ledger, acted, instances
from tests.core.machine.unruly import Turn

MOST_UNHEARD = 0.2
"""Share of a role that may be unheard at a scale-in; more would be called a partition."""


def nothing_is_withdrawn_while_readings_are_missing(turn: Turn, _: Ledger) -> None:
    """Bounds alone need no reading: they win whatever is heard."""
    for service, decision in acted(turn):
        if decision.action is not Action.SCALE_IN or decision.bound_by == "bounds":
            continue
        for role in service.spec.roles:
            carrying = [i for i in instances(turn, service.name) if _carries(i) and i.role is role]
            told = [
                i
                for i in carrying
                if _told(turn.state.tracks.get(i.instance_id), turn, service, role)
            ]
            unheard = len(carrying) - len(told)
            text = f"{unheard} of {len(carrying)} {role} unheard: {decision.reason}"
            assert unheard <= MOST_UNHEARD * len(carrying), text


def _carries(instance: Instance) -> bool:
    return instance.state in (S.IN_SERVICE, S.UNKNOWN)


def _told(track: Track | None, turn: Turn, service: Service, role: Role) -> bool:
    """Return whether an engine is read, and said what it is doing on a page that is no older.

    Pages that say nothing are a hole, and a hole up to ``freshness`` long is none yet.
    """
    newest = track.newest if track else None
    freshness = service.spec.policy.freshness
    if track is None or newest is None or turn.now - newest.at > freshness:
        return False
    if role is Role.FFN:
        return True  # its page says that it is there, and never of a load
    lately = (point for point in track if newest.at - point.at <= freshness)
    return any(point.running is not None and point.waiting is not None for point in lately)


def a_partition_replaces_and_withdraws_nothing(turn: Turn, _: Ledger) -> None:
    cut_off = turn.state.cut_off.keys()
    for service, decision in acted(turn):
        homes = {
            rank.agent_id
            for i in instances(turn, service.name)
            for rank in i.ranks
            if i.state not in (S.TERMINATED, S.FAILED, S.LOST)
        }
        if homes & cut_off:
            banned = (Action.REPAIR, Action.SCALE_IN, Action.FINISH_SCALE_IN)
            assert decision.action not in banned, f"{decision.action}: {decision.reason}"


def who_is_cut_off_is_not_given_up(turn: Turn, _: Ledger) -> None:
    for instance_id, after in turn.changes.instances.items():
        before = turn.instances.get(instance_id)
        if after is None or before is None or after.state is not S.LOST or before.state is S.LOST:
            continue
        lost = {rank.agent_id for rank in after.ranks if rank.agent_id not in turn.state.cut_off}
        assert lost, f"{instance_id} is LOST, and all its agents are cut off"


UNKNOWN = (
    nothing_is_withdrawn_while_readings_are_missing,
    a_partition_replaces_and_withdraws_nothing,
    who_is_cut_off_is_not_given_up,
)
