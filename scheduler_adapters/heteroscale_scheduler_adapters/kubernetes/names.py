"""Labels, annotations, conditions and gates by which what is ours is known in a cluster.

A label's value has 63 signs of few kinds; where a name may be longer or freer, the annotation of the
same key has it whole, and wins.
"""

from __future__ import annotations

import hashlib
import re

PREFIX = "heteroscale.io/"
MANAGER = "heteroscale"
"""Field manager of all that is applied, and the value of ``app.kubernetes.io/managed-by``."""
MANAGED_BY = "app.kubernetes.io/managed-by"

# ---- on pods, and in the templates of objects -----------------------------------------------------

CLUSTER = PREFIX + "cluster"
"""The adapter's name: two coordinators of one cluster do not take each other's."""
INSTANCE = PREFIX + "instance"
SERVICE = PREFIX + "service"
ROLE = PREFIX + "role"
GROUP = PREFIX + "group"
RANK = PREFIX + "rank"
RANKS = PREFIX + "ranks"
"""How many pods the instance has; without it, one."""
TEMPLATE = PREFIX + "template"
REQUEST = PREFIX + "request"
"""The step that launched it. A pod without it is not ours."""
DOMAIN = PREFIX + "domain"
ENGINE = PREFIX + "engine"
PORT = PREFIX + "port"
"""Where the engine serves."""
CAUSE = PREFIX + "cause"
"""Annotation: the decision."""
GATE = PREFIX + "gate"
"""Label: ``open`` or ``closed``; what a Service or a router may select by."""
GATE_REASON = PREFIX + "gate-reason"
"""Annotation: why it is closed."""
GATE_UNTIL = PREFIX + "gate-until"
"""Annotation: seconds since 1970 at which a closed gate that nobody renews is void."""
STOPPING = PREFIX + "stopping"
"""Annotation: when it was told to end, before the object's controller has taken it away."""
OPEN, CLOSED = "open", "closed"

TRAFFIC = PREFIX + "traffic"
"""Condition of a pod that has it among its readiness gates: True while traffic may reach it."""
STEP_GATE = PREFIX + "step"
"""Scheduling gate: the pod waits until its whole step is there."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

# ---- of others -------------------------------------------------------------------------------------

POD_TEMPLATE_HASH = "pod-template-hash"
LWS = "leaderworkerset.sigs.k8s.io/"
LWS_NAME, LWS_GROUP, LWS_WORKER = LWS + "name", LWS + "group-index", LWS + "worker-index"
LWS_SIZE = LWS + "size"
"""Annotation of each pod of a group: how many pods it has."""
MIRROR = "kubernetes.io/config.mirror"

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def label_value(text: str) -> str:
    """Return ``text`` if it can be a label's value, else a shortened form that ends in its hash."""
    if not text or _LABEL.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    readable = re.sub("[^A-Za-z0-9._-]+", "-", text).strip("._-")[:52]
    return f"{readable}-{digest}" if readable else digest
