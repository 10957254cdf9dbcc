"""How far a pod has come, in the port's words, with what an operator should read."""

from __future__ import annotations

from heteroscale_scheduler_adapters.kubernetes import names
from heteroscale_scheduler_adapters.kubernetes.objects import condition, items, moment, part, text
from heteroscale_scheduler_adapters.kubernetes.resources import Object
from heteroscale_scheduler_adapters.kubernetes.settings import FailureSettings
from heteroscale_scheduler_adapters.port import Phase

OVER = ("Succeeded", "Failed")
_NO_IMAGE = {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed"}
_NEVER = {"InvalidImageName", "ErrImageNeverPull"}
_WRONG = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
Progress = tuple[Phase, str, float]


def progress(pod: Object, settings: FailureSettings, now: float) -> Progress:
    """Return a pod's phase, what is to be said of it, and since when (0: not known).

    ``now`` is in seconds since 1970.
    """
    metadata, status = part(pod, "metadata"), part(pod, "status")
    phase, leaving = text(status, "phase"), text(metadata, "deletionTimestamp")
    if phase in OVER:
        told = Phase.ENDED if leaving else Phase.FAILED
        return told, "" if leaving else _end(pod), _ended_at(pod)
    if leaving:
        grace = metadata.get("deletionGracePeriodSeconds")
        early = float(grace) if isinstance(grace, int | float) else 0.0
        return Phase.STOPPING, _unscheduled(pod), max(0.0, moment(leaving) - early)
    if not text(pod, "spec", "nodeName"):
        return Phase.QUEUED, _unscheduled(pod), moment(metadata.get("creationTimestamp"))
    began = moment(status.get("startTime")) or moment(metadata.get("creationTimestamp"))
    failed = _cannot_run(pod, settings, now - began if began else 0.0)
    if failed:
        return Phase.FAILED, failed, began
    ready = condition(pod, "ContainersReady")
    if phase == "Running" and ready.get("status") == "True":
        lost = text(condition(pod, "Ready"), "reason") == "NodeNotReady"
        said = "its node does not answer" if lost or phase == "Unknown" else ""
        return Phase.READY, said, moment(ready.get("lastTransitionTime"))
    return Phase.STARTING, _starting(pod), began


def _containers(pod: Object) -> list[Object]:
    status = part(pod, "status")
    return [*items(status, "initContainerStatuses"), *items(status, "containerStatuses")]


def _unscheduled(pod: Object) -> str:
    said = condition(pod, "PodScheduled")
    if said.get("status") != "False":
        return ""
    if text(said, "reason") == "SchedulingGated":
        gates = [text(one, "name") for one in items(pod, "spec", "schedulingGates")]
        others = [gate for gate in gates if gate != names.STEP_GATE]
        if others:
            return f"held by scheduling gates of others: {', '.join(others)}"
        return "waits until its whole step is there"
    return text(said, "message")


def _cannot_run(pod: Object, settings: FailureSettings, tried: float) -> str:
    for one in _containers(pod):
        waiting = part(one, "state", "waiting")
        reason = text(waiting, "reason")
        said = f"container {text(one, 'name')}: {reason}: {text(waiting, 'message')}".rstrip(": ")
        restarts = one.get("restartCount")
        if reason in _NEVER or (reason in _NO_IMAGE | _WRONG and tried >= settings.image):
            return said
        if (
            reason == "CrashLoopBackOff"
            and isinstance(restarts, int)
            and restarts >= settings.restarts
        ):
            return f"{said}; started {restarts + 1} times{_last_end(one)}"
    return ""


def _starting(pod: Object) -> str:
    for one in _containers(pod):
        waiting = part(one, "state", "waiting")
        reason = text(waiting, "reason")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            said = f"container {text(one, 'name')}: {reason}: {text(waiting, 'message')}".rstrip(
                ": "
            )
            return said + _last_end(one)
    return ""


def _last_end(container: Object) -> str:
    ended = part(container, "lastState", "terminated")
    return f" (last: {_exit(ended)})" if ended else ""


def _exit(ended: Object) -> str:
    reason = text(ended, "reason")
    code, signal = ended.get("exitCode"), ended.get("signal")
    said = f"signal {signal}" if signal else f"exit status {code}"
    return f"{reason}, {said}" if reason and reason not in ("Error", "Completed") else said


def _end(pod: Object) -> str:
    """Say why a pod is over: the kubelet's word (Evicted, NodeShutdown), else its containers'."""
    status = part(pod, "status")
    reason, message = text(status, "reason"), text(status, "message")
    target = condition(pod, "DisruptionTarget")
    if not reason and target.get("status") == "True":
        reason, message = text(target, "reason"), text(target, "message")
    if reason or message:
        return ": ".join(filter(None, (reason, message)))
    ended = [
        f"container {text(one, 'name')}: {_exit(part(one, 'state', 'terminated'))}"
        for one in _containers(pod)
        if part(one, "state", "terminated").get("exitCode")
    ]
    if ended:
        return "; ".join(ended)
    return "ended by itself" if text(status, "phase") == "Succeeded" else "failed"


def _ended_at(pod: Object) -> float:
    stamps = [part(one, "state", "terminated").get("finishedAt") for one in _containers(pod)]
    return max((moment(stamp) for stamp in stamps), default=0.0)
