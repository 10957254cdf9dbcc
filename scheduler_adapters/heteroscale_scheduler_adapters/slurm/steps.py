"""Steps, whole: every job of one is submitted held, and all are released once all were taken.

Who asks again, in this process or in another, finds the jobs by what is written on them, and goes on
where the other ended. What nobody goes on with is completed or taken back by ``tend``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from heteroscale_scheduler_adapters.port import (
    AdapterError,
    Launch,
    RefusedError,
    Step,
    UnavailableError,
)
from heteroscale_scheduler_adapters.slurm import gres, phases, tag
from heteroscale_scheduler_adapters.slurm.records import JobRecord, NodeRecord, Order
from heteroscale_scheduler_adapters.slurm.script import batch_script, plain
from heteroscale_scheduler_adapters.slurm.settings import JobOptions, SlurmOptions
from heteroscale_scheduler_adapters.slurm.tag import Tag
from heteroscale_scheduler_adapters.slurm.way import Way

Jobs = list[tuple[JobRecord, Tag]]
_LONGEST_NAME = 60
_LATE = 9_999_999_999.999
"""A moment (2286) that takes as much room in a comment as any other to the millisecond."""


class Steps:
    """Submits, releases and takes back."""

    def __init__(
        self, cluster: str, way: Way, options: SlurmOptions, monotonic: Callable[[], float]
    ) -> None:
        self._cluster = cluster
        self._way = way
        self._options = options
        self._monotonic = monotonic
        self._half: dict[str, tuple[frozenset[int], float]] = {}

    async def launch(self, step: Step) -> None:
        """Start all of a step, or nothing. Raises RefusedError, UnavailableError."""
        nodes = {record.name: record for record in await self._way.nodes()}
        orders = {one.instance_id: self._order(step, one, nodes) for one in step.launches}
        jobs = self._of(step.request_id, await self._way.jobs())
        if _broken(jobs):
            await self._take_back(jobs)
            raise RefusedError(f"step {step.request_id} was taken back before")
        known = {one.instance for _, one in jobs}
        missing = [order for instance, order in orders.items() if instance not in known]
        if missing:
            await self._submit(step, missing)
            jobs = self._of(step.request_id, await self._way.jobs())
        await self._finish(step, jobs)

    async def tend(self, jobs: Sequence[JobRecord], now: float) -> list[str]:
        """Do what a process that is gone has left undone; return what an operator should see of it."""
        mine: dict[str, Jobs] = {}
        late: list[int] = []
        for job in jobs:
            if one := tag.ours(job, self._way.user, self._cluster):
                mine.setdefault(one.request, []).append((job, one))
                overdue = 0 < one.stop <= now and "COMPLETING" not in job.states
                if not phases.over(job) and (overdue or phases.hopeless(job, now)):
                    late.append(job.job_id)
        notes: list[str] = []
        try:
            await self._way.cancel(late)
            for request, members in mine.items():
                notes += await self._tend_step(request, members)
        except AdapterError as error:
            notes.append(f"left for the next look: {error}")
        self._half = {request: seen for request, seen in self._half.items() if request in mine}
        return notes

    async def _tend_step(self, request: str, members: Jobs) -> list[str]:
        held = [job.job_id for job, _ in members if phases.held(job)]
        if not held:
            self._half.pop(request, None)
            return []
        await self._way.cancel(twins := _twins(members))
        whole = len({one.instance for _, one in members}) >= members[0][1].of
        if whole and not _broken(members):
            await self._way.release([job for job in held if job not in twins])
            return [f"step {request} was found whole and held, and was released"]
        seen, since = self._half.get(request, (frozenset(), 0.0))
        if seen != frozenset(held):
            self._half[request] = (frozenset(held), self._monotonic())
        elif self._monotonic() - since >= self._options.half_step_after:
            await self._take_back(members)
            return [f"step {request} was left half submitted, and is taken back"]
        return [f"step {request} is half submitted: {len(held)} of {members[0][1].of} jobs"]

    async def _submit(self, step: Step, orders: Iterable[Order]) -> None:
        try:
            for order in orders:
                await self._way.submit(order)
        except RefusedError:
            await self._take_back(self._of(step.request_id, await self._way.jobs()))
            raise

    async def _finish(self, step: Step, jobs: Jobs) -> None:
        twins = _twins(jobs)
        await self._way.cancel(twins)
        known = {one.instance for _, one in jobs}
        if missing := [one.instance_id for one in step.launches if one.instance_id not in known]:
            raise UnavailableError(f"no job of {', '.join(missing)} is to be seen yet")
        held = [job.job_id for job, _ in jobs if phases.held(job) and job.job_id not in twins]
        try:
            await self._way.release(held)
        except RefusedError:
            # Somebody cancelled one of them, or holds it: then none of them starts.
            await self._take_back(jobs)
            raise

    async def _take_back(self, jobs: Jobs) -> None:
        await self._way.cancel([job.job_id for job, _ in jobs if not phases.over(job)])

    def _of(self, request: str, jobs: Iterable[JobRecord]) -> Jobs:
        found = [(job, tag.ours(job, self._way.user, self._cluster)) for job in jobs]
        mine = [(job, one) for job, one in found if one and one.request == request]
        return sorted(mine, key=lambda pair: pair[0].job_id)

    # ---- what is asked of Slurm --------------------------------------------------------------

    def _order(self, step: Step, launch: Launch, nodes: Mapping[str, NodeRecord]) -> Order:
        template = next((t for t in self._options.templates if t.name == launch.template), None)
        if template is None:
            known = ", ".join(t.name for t in self._options.templates)
            raise RefusedError(
                f"there is no template {launch.template!r}; the options have {known}"
            )
        strange = [spot.node for spot in launch.ranks if spot.node not in nodes]
        if strange:
            raise RefusedError(f"Slurm has no node {', '.join(strange)}")
        job = self._options.job_of(template)
        names = tuple(spot.node for spot in launch.ranks)
        if len(set(names)) < len(names):
            raise RefusedError("each rank of an instance needs a node of its own in Slurm")
        order = self._asked(step, launch, job, names, nodes)
        agent = self._options.agent
        script = batch_script(
            self._cluster, step, launch, template=template, agent=agent, order=order
        )
        return replace(order, script=script)

    def _asked(
        self,
        step: Step,
        launch: Launch,
        job: JobOptions,
        names: tuple[str, ...],
        nodes: Mapping[str, NodeRecord],
    ) -> Order:
        given = launch.parameters
        pinned = job.pin == "nodes"
        count = len(names)
        return Order(
            name=f"hs-{launch.service}-{launch.role}-{launch.instance_id}"[:_LONGEST_NAME],
            comment=_comment(self._cluster, step, launch, names if pinned else ()),
            script="",
            nodes=names if pinned else (),
            count=count,
            gres=_gres(launch, nodes),
            exclusive=job.exclusive,
            partition=plain(job.partition or self._options.partition, given, "job.partition"),
            account=plain(job.account, given, "job.account"),
            qos=plain(job.qos, given, "job.qos"),
            reservation=self._options.reservation,
            constraint=plain(job.constraint, given, "job.constraint"),
            switches=0 if pinned or count == 1 else 1,
            cpus=job.cpus_per_gpu * launch.gpus,
            memory=job.memory_per_gpu * launch.gpus,
            limit=math.ceil(job.time_limit / 60),
            warning=int(job.warning) if job.time_limit else 0,
            warn_batch=self._way.warns_script,
            requeue=job.requeue,
            folder=job.folder,
            output=job.output,
            more=tuple((k, plain(v, given, f"job.options.{k}")) for k, v in job.options.items()),
        )


def _comment(cluster: str, step: Step, launch: Launch, names: tuple[str, ...]) -> str:
    one = Tag(
        instance=launch.instance_id,
        service=launch.service,
        role=launch.role,
        template=launch.template,
        request=step.request_id,
        of=len(step.launches),
        decision=step.cause,
        ranks=len(launch.ranks),
        gpus=launch.gpus,
        group=launch.group,
        order=",".join(names) if names != tuple(sorted(names)) else "",
        cluster=cluster,
    )
    try:
        tag.write(one.stopped(_LATE))  # what is written when it is told to end needs room as well
        return tag.write(one)
    except ValueError as error:
        raise RefusedError(f"instance {launch.instance_id}: {error}") from None


def _gres(launch: Launch, nodes: Mapping[str, NodeRecord]) -> str:
    """Return GPUs by type, where all nodes of an instance have one and the same."""
    types: set[str] = set()
    for spot in launch.ranks:
        there = gres.parse(nodes[spot.node].gres)
        if spot.gpu_indices:
            flat = [one.type for one in there for _ in range(one.count)]
            types |= {flat[index] for index in spot.gpu_indices if index < len(flat)}
        else:
            types |= {one.type for one in there}
    kind = types.pop() if len(types) == 1 else ""
    return f"gpu:{kind}:{launch.gpus}" if kind else f"gpu:{launch.gpus}"


def _twins(jobs: Jobs) -> list[int]:
    """Return the held jobs of instances that have an older one: two asked at once."""
    first: dict[str, int] = {}
    twins: list[int] = []
    for job, one in sorted(jobs, key=lambda pair: pair[0].job_id):
        if first.setdefault(one.instance, job.job_id) != job.job_id and not phases.over(job):
            twins.append(job.job_id)
    return twins


def _broken(jobs: Jobs) -> bool:
    """Return whether a job of a step was cancelled before it ran, while none of the step goes on."""
    live = {one.instance for job, one in jobs if not phases.over(job)}
    dead = {
        one.instance
        for job, one in jobs
        if phases.over(job) and not phases.began(job) and not one.stop
    }
    released = any(not phases.held(job) for job, one in jobs if not phases.over(job))
    return bool(dead - live) and not released
