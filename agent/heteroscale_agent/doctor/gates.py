"""What gates of the document need on this host: files, programs, sockets, authorities."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from heteroscale_agent.config.gates import Haproxy, HttpHook, Upstream
from heteroscale_agent.doctor.finding import Case, Finding, note, ok, problem
from heteroscale_agent.doctor.templates import why_not

_SOCKET_DEADLINE = 1.0


def look(case: Case) -> Iterator[Finding]:
    """Yield each gate that the document names."""
    gates = case.spec.gates
    for name, upstream in sorted(gates.upstreams.items()):
        yield from _judged(f"upstream {name}", str(upstream.path), _upstream(case, upstream))
    for name, proxy in sorted(gates.haproxy.items()):
        yield from _judged(f"haproxy {name}", ", ".join(proxy.sockets), _haproxy(proxy))
    for name, hook in sorted(gates.http.items()):
        yield from _judged(f"http {name}", hook.open.url, _http(case, hook))
    yield from _folder(case)


def _judged(check: str, what: str, faults: Iterator[str]) -> Iterator[Finding]:
    found = list(faults)
    if found:
        yield problem(check, "; ".join(found), "no instance gets into service by it: mend `gates`")
    else:
        yield ok(check, what)


def _upstream(case: Case, upstream: Upstream) -> Iterator[str]:
    folder = upstream.path.parent
    if not folder.is_dir():
        yield f"{folder} does not exist"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"{folder} cannot be written by us"
    for command in (upstream.check, upstream.reload):
        if command and (fault := why_not(case, command[0], "")):
            yield fault
    if upstream.pid_file is not None and not upstream.pid_file.exists():
        yield f"{upstream.pid_file} does not exist: the proxy does not run"


def _haproxy(proxy: Haproxy) -> Iterator[str]:
    for address in proxy.sockets:
        try:
            _dial(address).close()
        except OSError as error:
            yield f"{address}: {error.strerror or error}"


def _dial(address: str) -> socket.socket:
    if not address.startswith("/"):
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), _SOCKET_DEADLINE)
    dialled = socket.socket(socket.AF_UNIX)
    dialled.settimeout(_SOCKET_DEADLINE)
    try:
        dialled.connect(address)
    except OSError:
        dialled.close()
        raise
    return dialled


def _http(case: Case, hook: HttpHook) -> Iterator[str]:
    if hook.ca is not None and not hook.ca.is_file():
        yield f"{hook.ca} does not exist"
    for call in (hook.open, hook.close, *([hook.check] if hook.check else [])):
        for header, secret in call.secrets.items():
            if secret.file is not None and not os.access(secret.file, os.R_OK):
                yield f"{header}: {secret.file} cannot be read by us"
            if secret.env and not case.environ.get(secret.env):
                yield f"{header}: {secret.env} is not set in this environment"


def _folder(case: Case) -> Iterator[Finding]:
    folder: Path | None = case.spec.gate_dir
    if folder is None:
        return
    if not folder.is_dir():
        yield note("gateDir", f"{folder} does not exist", "the first `file` gate makes it")
    elif os.access(folder, os.W_OK | os.X_OK):
        yield ok("gateDir", f"{folder} can be written")
    else:
        yield problem("gateDir", f"{folder} cannot be written by us", "chown it, or mend `gateDir`")
