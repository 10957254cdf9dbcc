"""Certificates: until when, for whom, and whether they will be believed. Only Python's own ssl."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from heteroscale.channel import TlsFiles
from heteroscale_agent.doctor.finding import Finding, note, ok, problem

UNIT = "heteroscale-agent"
SOON_DAYS = 21.0
_DAY = 86_400.0
Facts = dict[str, Any]


def of_server(host: str, port: int, tls: TlsFiles, deadline: float) -> Finding:
    """Shake hands as the agent would, and return what the coordinator's certificate says."""
    name = tls.server_name or host
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        context.set_alpn_protocols(["h2"])
        if tls.certificate is not None and tls.key is not None:
            context.load_cert_chain(tls.certificate, tls.key)
        with (
            socket.create_connection((host, port), deadline) as raw,
            context.wrap_socket(raw, server_hostname=name) as secure,
        ):
            facts = secure.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        todo = "mend `tls.ca` or `tls.serverName`, or renew the coordinator's certificate"
        return problem("certificate", f"of the coordinator: {error.verify_message}", todo)
    except (ssl.SSLError, OSError) as error:
        todo = (
            "does the coordinator speak TLS there, and is this agent's certificate of its clientCa?"
        )
        return problem("handshake", f"TLS with {name}: {error}", todo)
    return _lasting("certificate", "of the coordinator", facts)


def own(certificate: Path, key: Path, agent_id: str) -> Iterator[Finding]:
    """Yield whether the agent's own certificate fits its key, lasts, and speaks for this agent."""
    try:
        facts = read(certificate, key)
    except ssl.SSLCertVerificationError as error:
        todo = "renew it: the coordinator refuses this agent"
        yield problem("own certificate", f"{certificate}: {error.verify_message}", todo)
        return
    except (ssl.SSLError, OSError) as error:
        todo = "`tls.certificate` and `tls.key` must be readable PEM files of one pair"
        yield problem("own certificate", f"{certificate}: {error}", todo)
        return
    yield _lasting("own certificate", str(certificate), facts)
    yield from _role(facts, agent_id)


def _role(facts: Facts, agent_id: str) -> Iterator[Finding]:
    names, units = _subject(facts, "commonName"), _subject(facts, "organizationalUnitName")
    if UNIT not in units:
        said = f"its organisational unit is {', '.join(units) or 'not there'}, not {UNIT}"
        yield problem("own role", said, f"issue one with OU={UNIT}")
    if agent_id and not any(fnmatchcase(agent_id, name) for name in names):
        said = f"its common name {', '.join(names) or '(none)'} does not cover agent {agent_id}"
        yield problem(
            "own name", said, f"issue one with CN={agent_id} or a pattern, or set `agentId`"
        )
    elif UNIT in units:
        yield ok("own role", f"OU={UNIT}, CN={', '.join(names)}")


def _lasting(check: str, whose: str, facts: Facts) -> Finding:
    if not facts.get("notAfter"):
        return note(check, f"{whose}: no end told", "")
    days = (ssl.cert_time_to_seconds(facts["notAfter"]) - time.time()) / _DAY
    said = f"{whose}: good for {days:.0f} days, until {facts['notAfter']}"
    return note(check, said, "renew it in time") if days < SOON_DAYS else ok(check, said)


def _subject(facts: Facts, key: str) -> list[str]:
    return [value for part in facts.get("subject", ()) for name, value in part if name == key]


def read(certificate: Path, key: Path) -> Facts:
    """Return subject and dates of a client certificate, as `SSLSocket.getpeercert` gives them.

    Python decodes only what was shown in a handshake and believed: so one is held in memory, in
    which the certificate is shown and is its own authority.

    Raises:
        ssl.SSLError: it is no certificate, does not fit its key, or is out of date.
        OSError: a file cannot be read.

    """
    judge = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    judge.load_cert_chain(certificate, key)
    judge.load_verify_locations(certificate)
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shown.load_cert_chain(certificate, key)
    shown.check_hostname, shown.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = judge.wrap_bio(there, back, server_side=True)
    client = shown.wrap_bio(back, there)
    for _ in range(10):
        ended = [_step(side) for side in (client, server)]
        if all(ended):
            break
    return dict(server.getpeercert() or {})


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
