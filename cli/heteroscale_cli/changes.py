"""What the commands that change something do; each says in one line what has been done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

import typer

from heteroscale.convert import to_wire
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.words import Role
from heteroscale_cli import pages, text
from heteroscale_cli.client import Client, InvalidError, NotFoundError, run
from heteroscale_cli.connection import Connection
from heteroscale_cli.errors import EXIT_REFUSED, CliError, usage
from heteroscale_cli.output import print_message, print_note, print_text
from heteroscale_cli.picture import Lost, follow
from heteroscale_cli.resources import pick_instance
from heteroscale_cli.sources import Source, read
from heteroscale_cli.vocabulary import Kind, Output


def apply(connection: Connection, names: Sequence[str], output: Output, *, dry_run: bool) -> None:
    """Apply every document of the files named, or none when the coordinator refuses one."""
    sources = read(names)
    answer = run(connection, lambda client: _apply(client, sources, dry_run=dry_run))
    if output in (Output.JSON, Output.YAML):
        print_message(answer, output)
        return
    for result in answer.results:
        note = " (dry run)" if dry_run else ""
        print_text(f"service/{text.clean(result.name)} {result.change}{note}")


async def _apply(
    client: Client, sources: Sequence[Source], *, dry_run: bool
) -> pb.ApplyServicesResponse:
    """Check all sources first when there are several: only one request is all or nothing."""
    whole = pb.ApplyServicesResponse()
    if dry_run or len(sources) > 1:
        checked = [await _refusal(client, source) for source in sources]
        if refusals := [str(item) for item in checked if isinstance(item, InvalidError)]:
            raise CliError("\n".join(refusals), EXIT_REFUSED, verbatim=True)
        if dry_run:
            for item in checked:
                if isinstance(item, pb.ApplyServicesResponse):
                    whole.MergeFrom(item)
            return whole
    for source in sources:
        try:
            whole.MergeFrom(await _send(client, source, validate_only=False))
        except InvalidError as error:
            raise CliError(str(error), EXIT_REFUSED, verbatim=True) from error
    return whole


async def _refusal(client: Client, source: Source) -> pb.ApplyServicesResponse | InvalidError:
    try:
        return await _send(client, source, validate_only=True)
    except InvalidError as error:
        return error


async def _send(client: Client, source: Source, *, validate_only: bool) -> pb.ApplyServicesResponse:
    request = pb.ApplyServicesRequest(
        document=source.text, file_name=source.name, validate_only=validate_only
    )
    return await client.call(client.stub.ApplyServices, request)


def confirm_delete(kind: Kind, name: str, *, drain: bool) -> None:
    """Ask; without a terminal to ask on, refuse.

    Raises:
        CliError: not confirmed.

    """
    if not sys.stdin.isatty():
        raise usage(f"deleting {name} needs a yes: say --yes")
    if not typer.confirm(f"Delete {_one(kind)} {name} ({_fate(kind, drain=drain)})?"):
        raise CliError("not deleted")


def delete(connection: Connection, kind: Kind, name: str, *, drain: bool) -> None:
    """Forget the service or the node."""

    async def work(client: Client) -> None:
        if kind is Kind.NODE:
            request = pb.DeleteNodeRequest(agent_id=name)
            await client.call(client.stub.DeleteNode, request)
        else:
            service = pb.DeleteServiceRequest(name=name, drain=drain)
            await client.call(client.stub.DeleteService, service)

    run(connection, work)
    print_text(f"{_one(kind)}/{name} deleted; {_fate(kind, drain=drain)}")


def _one(kind: Kind) -> str:
    return kind.value.removesuffix("s")


def _fate(kind: Kind, *, drain: bool) -> str:
    if kind is Kind.NODE:
        return "its instances are given up and replaced"
    return "its instances are draining" if drain else "its instances run on, unmanaged"


def pause(connection: Connection, name: str, reason: str) -> None:
    """Stop acting on decisions."""
    request = pb.PauseServiceRequest(name=name, reason=reason)
    run(connection, lambda client: client.call(client.stub.PauseService, request))
    print_text(f"service/{name} paused")


def resume(connection: Connection, name: str) -> None:
    """Act on decisions again."""
    request = pb.ResumeServiceRequest(name=name)
    service = run(connection, lambda client: client.call(client.stub.ResumeService, request))
    note = "; advisory in its document, so still nothing is sent" if service.advisory else ""
    print_text(f"service/{name} resumed{note}")


def scale(connection: Connection, name: str, counts: Mapping[Role, int]) -> None:
    """Set counts once."""
    request = pb.ScaleServiceRequest(name=name)
    for role, count in counts.items():
        setattr(request, role.value, count)
    service = run(connection, lambda client: client.call(client.stub.ScaleService, request))
    wanted = ", ".join(
        f"{role.value} {status.wanted}"
        for role in Role
        if (status := text.role_of(service, role)) is not None
    )
    print_text(f"service/{name} scaled; wanted: {wanted or text.UNKNOWN}")
    if not service.paused:
        print_note(f"The policy goes on from there; to keep it: heteroscale pause {name}")


def drain(connection: Connection, instance: str, reason: str, limit_s: float | None) -> None:
    """Drain an instance; with ``limit_s``, wait that long for its end."""
    run(connection, lambda client: _drain(client, instance, reason, limit_s))


async def _drain(client: Client, name: str, reason: str, limit_s: float | None) -> None:
    async def send(instance_id: str) -> pb.Instance:
        request = pb.DrainInstanceRequest(instance_id=instance_id, reason=reason)
        return await client.call(client.stub.DrainInstance, request)

    instance = await _by_id(client, name, send)
    print_text(f"instance/{instance.instance_id} {_doing(instance, 'draining')}")
    if limit_s is None:
        return
    try:
        async with asyncio.timeout(limit_s):
            end = await _end(client, instance)
    except TimeoutError as error:
        raise CliError(
            f"instance {instance.instance_id} has not stopped within {limit_s:g}s; "
            "the drain goes on"
        ) from error
    print_text(f"instance/{instance.instance_id} {end}")


async def _end(client: Client, drained: pb.Instance) -> str:
    """Return how the drain ended; a coordinator that restarts meanwhile is waited for.

    Raises:
        CliError: it ended otherwise than by stopping.

    """
    seen, present, identity = text.state_word(drained.state), False, drained.instance_id
    async with aclosing(follow(client, drained.service)) as responses:
        async for item in responses:
            event = None if isinstance(item, Lost) else item.WhichOneof("event")
            if isinstance(item, Lost):
                print_note(f"{item.reason}; trying again")
                present = False
            elif event == "synced" and not present:
                return "gone"
            elif event == "instance" and item.instance.instance_id == identity:
                present = True
                before, seen = seen, text.state_word(item.instance.state)
                if seen == "terminated":
                    return "stopped"
                _still_draining(item.instance, before)
                if seen != before:
                    print_note(f"{text.state(item.instance)}")
    raise AssertionError("follow does not end")


def _still_draining(instance: pb.Instance, before: str) -> None:
    state = text.state_word(instance.state)
    cancelled = before == "draining" and state in ("in_service", "withdrawn")
    if cancelled or state in ("failed", "lost"):
        tail = f": {text.clean(instance.message)}" if instance.message else ""
        raise CliError(
            f"instance {instance.instance_id} did not stop: {text.state(instance)}{tail}"
        )


def cordon(connection: Connection, node: str, gpus: Sequence[int], reason: str) -> None:
    """Close a node, or GPUs of it, to new instances."""
    request = pb.CordonNodeRequest(agent_id=node, gpus=gpus, reason=reason)
    answer = run(connection, lambda client: client.call(client.stub.CordonNode, request))
    print_text(f"node/{text.clean(answer.agent_id)} {text.clean(answer.cordon)}")
    if here := len(answer.instance_ids):
        print_note(f"What runs there ({here}) runs on; `heteroscale drain INSTANCE` empties one")


def uncordon(connection: Connection, node: str, gpus: Sequence[int]) -> None:
    """Open a node, or GPUs of it, again."""
    request = pb.UncordonNodeRequest(agent_id=node, gpus=gpus)
    answer = run(connection, lambda client: client.call(client.stub.UncordonNode, request))
    left = f"; still {answer.cordon}" if answer.cordon else ""
    print_text(f"node/{text.clean(answer.agent_id)} uncordoned{text.clean(left)}")


def reinstate(connection: Connection, instance: str) -> None:
    """Put an instance back into service."""

    async def send(client: Client, instance_id: str) -> pb.Instance:
        request = pb.ReinstateInstanceRequest(instance_id=instance_id)
        return await client.call(client.stub.ReinstateInstance, request)

    answer = run(connection, lambda client: _by_id(client, instance, partial(send, client)))
    print_text(f"instance/{answer.instance_id} {_doing(answer, 'reinstating')}")


def switch_role(connection: Connection, instance: str, role: Role) -> None:
    """Have an instance change between prefill and decode."""

    async def send(client: Client, instance_id: str) -> pb.Instance:
        told = to_wire(role)
        request = pb.SwitchInstanceRoleRequest(instance_id=instance_id, role=told)  # type: ignore[arg-type]
        return await client.call(client.stub.SwitchInstanceRole, request)

    answer = run(connection, lambda client: _by_id(client, instance, partial(send, client)))
    print_text(f"instance/{answer.instance_id} {_doing(answer, f'switching to {role}')}")


async def _by_id(
    client: Client, name: str, send: Callable[[str], Awaitable[pb.Instance]]
) -> pb.Instance:
    """Send with ``name`` as id; when there is none such, with the only id that begins with it."""
    try:
        return await send(name)
    except NotFoundError:
        if not name:
            raise
    known = await pages.all_instances(client)
    return await send(pick_instance(known.instances, name).instance_id)


def _doing(instance: pb.Instance, verb: str) -> str:
    """Return what was asked, and the state it is in until the agent has done it."""
    return f"{verb} (now {text.state(instance)})"
