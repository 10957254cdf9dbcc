"""How many: signals, demand, supply and the joint law over them. Never where.

``decide(view)`` is pure: equal views give equal verdicts. It says what to do, why, and what to
remember; the turn carries it out.
"""

from heteroscale_coordinator.core.policy.joint import decide
from heteroscale_coordinator.core.policy.signals import Signals, observe_signals
from heteroscale_coordinator.core.policy.view import Member, ServiceView

__all__ = ["Member", "ServiceView", "Signals", "decide", "observe_signals"]
