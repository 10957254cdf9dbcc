"""How many: signals, demand, supply and the joint law over them. Never where.

``decide(view)`` is pure: equal views give equal verdicts. It says what to do, why, and what to
remember; the turn carries it out. A verdict is level-triggered: until what it asked for is seen in
the members, it may be asked for again, so a turn that has commands open for it need not send more.
"""

from heteroscale_coordinator.core.policy.joint import decide
from heteroscale_coordinator.core.policy.learning import in_force
from heteroscale_coordinator.core.policy.observe import Signals, observe_signals
from heteroscale_coordinator.core.policy.view import Member, ServiceView

__all__ = [
    "Member",
    "ServiceView",
    "Signals",
    "decide",
    "in_force",
    "observe_signals",
]
