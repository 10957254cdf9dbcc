"""The life of an instance on this host, as one table: every change it may make, and when."""

from __future__ import annotations

from heteroscale.words import InstanceState

_S = InstanceState

EDGES: dict[tuple[InstanceState, InstanceState], str] = {
    (_S.LAUNCHING, _S.WARMING): "its readiness probe answered",
    (_S.LAUNCHING, _S.DRAINING): "terminate came before it was ready",
    (_S.LAUNCHING, _S.FAILED): "it exited, could not be started, or was not ready in time",
    (_S.WARMING, _S.IN_SERVICE): "at least one router confirmed that it is in",
    (_S.WARMING, _S.WITHDRAWN): "it is held for the ratio, or withdrawn before any router had it",
    (_S.WARMING, _S.DRAINING): "drain or terminate",
    (_S.WARMING, _S.FAILED): "it exited, or no router took it in in time",
    (_S.IN_SERVICE, _S.WITHDRAWN): "withdraw, or it is to switch its role",
    (_S.IN_SERVICE, _S.DRAINING): "drain or terminate",
    (_S.IN_SERVICE, _S.FAILED): "it exited",
    (
        _S.WITHDRAWN,
        _S.IN_SERVICE,
    ): "reinstate, its lease or hold ended, or it has switched its role",
    (
        _S.WITHDRAWN,
        _S.WITHDRAWN,
    ): "withdrawn again: another reason, a new lease, or to switch its role",
    (_S.WITHDRAWN, _S.DRAINING): "drain or terminate, or a switch of its role broke it",
    (_S.WITHDRAWN, _S.FAILED): "it exited",
    **{
        (state, _S.TERMINATED): "a rank above 0 exited with code 0, or its owner ended it"
        for state in (_S.WARMING, _S.IN_SERVICE, _S.WITHDRAWN)
    },
    (_S.DRAINING, _S.IN_SERVICE): "reinstate, or its lease ended, before TERM",
    (
        _S.DRAINING,
        _S.WITHDRAWN,
    ): "an owner who was ending it (a job that is requeued) says it is not ready",
    (_S.DRAINING, _S.DRAINING): "drain with other terms, or terminate in the midst of a drain",
    (_S.DRAINING, _S.TERMINATED): "its process ended after TERM",
    (_S.DRAINING, _S.FAILED): "it exited before TERM was sent",
    (_S.UNKNOWN, _S.FAILED): "a process that could not be adopted ended",
}
"""Every change of state, with when it happens. What is not here raises."""

ENDED = frozenset({_S.TERMINATED, _S.FAILED})
