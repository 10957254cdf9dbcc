"""The gate of HAProxy over its stats socket: a server is drained, readied, or added; nothing reloads.

`gate.options`: `haproxy` names one of the agent's configuration. Every pass reads `show servers
state` anew, so what is told is what the proxy says. A server of the backend with the instance's
address is steered; where there is none it is added, in maintenance, and then readied. A server that
HAProxy's own check holds down is not in. One that is not there at all is out.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from heteroscale_agent.config.gates import Haproxy
from heteroscale_agent.hands.gates.port import Member, View
from heteroscale_agent.hands.gates.upstream_file import values
from heteroscale_agent.names import NAMES

MAX_ANSWER_BYTES = 4 * 1024 * 1024
_MAINT, _DRAIN = 0x01 | 0x02 | 0x04 | 0x20, 0x08 | 0x10
"""Bits of `srv_admin_state`: forced, inherited, configured, by DNS; forced, inherited."""
_RUNNING = 2
_FIELDS = ("srv_name", "srv_addr", "srv_port", "srv_op_state", "srv_admin_state")


class SocketError(RuntimeError):
    """The proxy did not answer, or refused; the text says how."""


@dataclass(frozen=True, slots=True)
class Server:
    """One line of `show servers state`."""

    name: str
    address: str
    port: str
    op_state: int
    admin_state: int

    @property
    def is_open(self) -> bool:
        """Whether nobody has taken it out."""
        return not self.admin_state & (_MAINT | _DRAIN)

    def is_closed(self, how: str) -> bool:
        """Return whether it takes no new sessions, as far as ``how`` (drain, maint) asks."""
        return bool(self.admin_state & (_MAINT if how == "maint" else _MAINT | _DRAIN))


class HaproxySocketGate:
    """Keeps servers in or out of the backends that the configuration names."""

    def __init__(self, proxies: Mapping[str, Haproxy]) -> None:
        self._proxies = proxies

    def complaint(self, member: Member) -> str:
        """Return what is wrong with the options, or nothing."""
        name = member.gate.options.get("haproxy", "")
        if not name:
            return "gate haproxy-socket needs the option `haproxy`"
        if name not in self._proxies:
            return f"no haproxy {name[:80]!r} in the agent's configuration (gates.haproxy)"
        return ""

    async def reconcile(self, member: Member, *, wanted_in: bool) -> View:
        """Look at every proxy at once and correct each; what each was seen to say is returned."""
        proxy = self._proxies[member.gate.options["haproxy"]]
        sockets = list(dict.fromkeys(proxy.sockets))
        told = await asyncio.gather(
            *(_one(socket, proxy, member, wanted_in=wanted_in) for socket in sockets)
        )
        places = {socket: seen for socket, (seen, _) in zip(sockets, told, strict=True)}
        said = [f"{s}: {why}" for s, (_, why) in zip(sockets, told, strict=True) if why]
        return View(places, "; ".join(said)[:400])

    async def close(self) -> None:
        """Do nothing: no connection is kept, and servers stay as they are."""


async def _one(
    socket: str, proxy: Haproxy, member: Member, *, wanted_in: bool
) -> tuple[bool | None, str]:
    try:
        async with asyncio.timeout(proxy.timeout):
            return await _compare(socket, proxy, member, wanted_in=wanted_in)
    except TimeoutError:
        return None, f"no whole answer within {proxy.timeout:g} s"
    except (OSError, SocketError, ValueError) as error:
        return None, str(error)[:200]


async def _compare(
    socket: str, proxy: Haproxy, member: Member, *, wanted_in: bool
) -> tuple[bool | None, str]:
    told = values(member)
    # HAProxy tells addresses: of an endpoint with a name all that the name stands for are meant.
    hosts = set(map(_plain, await NAMES.addresses(told["host"].strip("[]"))))
    mine = [
        server
        for server in await _servers(socket, proxy.backend)
        if server.port == told["port"] and _plain(server.address) in hosts
    ]
    if not wanted_in:
        for server in mine:
            if not server.is_closed(proxy.closed):
                await _order(
                    socket, f"set server {proxy.backend}/{server.name} state {proxy.closed}"
                )
        return not all(server.is_closed(proxy.closed) for server in mine), ""
    if not mine:
        mine = [await _add(socket, proxy, member)]
    for server in mine:
        if not server.is_open:
            await _order(socket, f"set server {proxy.backend}/{server.name} state ready")
    if any(server.is_open and server.op_state != _RUNNING for server in mine):
        return False, f"{member.endpoint}: HAProxy's own check holds it down"
    return all(server.is_open for server in mine), ""


async def _add(socket: str, proxy: Haproxy, member: Member) -> Server:
    """Add the server, which comes in maintenance; an older one of its name has another address."""
    told = values(member)
    name = told["name"]
    await _ask(socket, f"set server {proxy.backend}/{name} state maint")
    await _ask(socket, f"del server {proxy.backend}/{name}")
    order = f"add server {proxy.backend}/{name} {told['host']}:{told['port']} {proxy.server}"
    answer = await _ask(socket, order.strip())
    if "New server registered" not in answer:
        raise SocketError(f"add server: {answer.strip()[:160]}")
    if " check" in f" {proxy.server}":
        await _order(socket, f"enable health {proxy.backend}/{name}")
    return Server(name, told["host"], told["port"], 0, _MAINT)


def _plain(address: str) -> str:
    """Return an address as it is always written; `::ffff:10.0.0.1` is 10.0.0.1."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


async def _servers(socket: str, backend: str) -> list[Server]:
    lines = (await _ask(socket, f"show servers state {backend}")).splitlines()
    if not lines or lines[0].strip() != "1":
        raise SocketError(f"show servers state: {' '.join(lines)[:160] or 'nothing'}")
    names = lines[1].lstrip("# ").split() if len(lines) > 1 else []
    if any(field not in names for field in _FIELDS):
        raise SocketError("show servers state has other columns than it had")
    rows = [line.split() for line in lines[2:] if line.strip()]
    return [_server(dict(zip(names, row, strict=False))) for row in rows]


def _server(row: Mapping[str, str]) -> Server:
    try:
        name, address, port, op_state, admin_state = (row[field] for field in _FIELDS)
        return Server(name, address, port, int(op_state), int(admin_state))
    except (KeyError, ValueError) as error:
        raise SocketError(f"show servers state: a line that makes no sense ({error})") from error


async def _order(socket: str, order: str) -> None:
    """Send an order that answers nothing when it was done."""
    if answer := (await _ask(socket, order)).strip():
        raise SocketError(f"{order}: {answer[:160]}")


async def _ask(socket: str, line: str) -> str:
    if socket.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(socket)
    else:
        host, _, port = socket.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    try:
        writer.write(f"{line}\n".encode())
        await writer.drain()
        answer = b""
        while block := await reader.read(65536):
            answer += block
            if len(answer) > MAX_ANSWER_BYTES:
                raise SocketError(f"more than {MAX_ANSWER_BYTES} bytes")
        return answer.decode("utf-8", errors="replace")
    finally:
        writer.transport.abort()
