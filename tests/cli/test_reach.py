"""Reaching the coordinator: nobody there, too slow, TLS and mutual TLS, beyond loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import trustme

from tests.cli.conftest import Typed, process
from tests.cli.twin import OperatorTwin, Served


def test_nobody_listens(typed: Typed, served: Served) -> None:
    served.stop()
    result = typed("get", "services")
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: coordinator {served.address} is unreachable: is it running? "
        "Name it with --coordinator; if it speaks TLS, give --ca (Connection refused)\n"
    )


def test_a_coordinator_that_cannot_do_it_now_says_so_itself(
    typed: Typed, twin: OperatorTwin, served: Served
) -> None:
    twin.refusal = (grpc.StatusCode.UNAVAILABLE, "the store cannot commit: disk full")
    result = typed("pause", "chat")
    assert result.exit_code == 3
    assert result.stderr == (
        f"error: coordinator {served.address} is unavailable: the store cannot commit: disk full\n"
    )


@pytest.mark.parametrize("words", [("get", "svc"), ("watch",), ("get", "svc", "-w")])
def test_a_coordinator_that_does_not_answer_is_given_up(
    typed: Typed, twin: OperatorTwin, words: tuple[str, ...]
) -> None:
    twin.stalled = True
    result = typed(*words, "--timeout", "200ms")
    assert result.exit_code == 3
    assert "did not answer within 0.2s" in result.stderr
    assert "--timeout" in result.stderr


def test_garbage_instead_of_a_coordinator(typed: Typed, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            talk, _ = listener.accept()
            with talk:
                talk.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        result = typed("get", "svc", "--coordinator", address, "--timeout", "2s")
        thread.join(timeout=10)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"error: coordinator {address} ")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--coordinator", "10.9.8.7:7070"), "without TLS"),
        (("--cert", "only.pem"), "give both --cert and --key, or neither"),
        (("--ca", "nowhere.pem"), "nowhere.pem: No such file"),
        (("--timeout", "soon"), "is no duration"),
        (("--timeout", "0s"), "must be above 0s"),
    ],
)
def test_settings_that_do_not_fit_are_wrong_usage(
    typed: Typed, words: tuple[str, ...], complaint: str
) -> None:
    result = typed("get", "svc", *words)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


@dataclass
class Trust:
    """PEM files of an authority, an operator, and of a stranger's authority."""

    ca: Path
    cert: Path
    key: Path
    stranger: Path
    served: Served


@pytest.fixture
def trust(tmp_path: Path, twin: OperatorTwin) -> Iterator[Trust]:
    authority, stranger = trustme.CA(), trustme.CA()
    server, operator = authority.issue_cert("coordinator.test"), authority.issue_cert("op@test")

    def written(name: str, blob: trustme.Blob) -> Path:
        path = tmp_path / name
        blob.write_to_path(str(path))
        return path

    pair = (server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials(
        [pair], root_certificates=authority.cert_pem.bytes(), require_client_auth=True
    )
    with Served(twin, credentials).running() as served:
        yield Trust(
            ca=written("ca.pem", authority.cert_pem),
            cert=written("cert.pem", operator.cert_chain_pems[0]),
            key=written("key.pem", operator.private_key_pem),
            stranger=written("stranger.pem", stranger.cert_pem),
            served=served,
        )


def environment(trust: Trust, **changes: str) -> dict[str, str]:
    """Return the settings of an operator as environment variables."""
    settings = {
        "HETEROSCALE_COORDINATOR": trust.served.address,
        "HETEROSCALE_CA": str(trust.ca),
        "HETEROSCALE_CERT": str(trust.cert),
        "HETEROSCALE_KEY": str(trust.key),
        "HETEROSCALE_SERVER_NAME": "coordinator.test",
    }
    return settings | changes


def test_mutual_tls_from_options(typed: Typed, trust: Trust) -> None:
    files = ("--ca", str(trust.ca), "--cert", str(trust.cert), "--key", str(trust.key))
    result = typed(
        *("get", "svc", "--coordinator", trust.served.address, *files),
        *("--server-name", "coordinator.test"),
    )
    assert result.exit_code == 0, result.stderr
    assert "chat" in result.stdout


def test_mutual_tls_from_the_environment(trust: Trust) -> None:
    result = process("get", "svc", **environment(trust))
    assert result.returncode == 0, result.stderr
    assert "chat" in result.stdout


def test_a_stranger_s_server_is_not_believed(trust: Trust) -> None:
    result = process("get", "svc", **environment(trust, HETEROSCALE_CA=str(trust.stranger)))
    assert result.returncode == 3
    assert result.stdout == ""
    assert "TLS failed: check --ca" in result.stderr


def test_another_name_in_the_certificate_is_not_believed(trust: Trust) -> None:
    result = process("get", "svc", **environment(trust, HETEROSCALE_SERVER_NAME="other.test"))
    assert result.returncode == 3
    assert "--server-name" in result.stderr


def test_without_a_certificate_mutual_tls_turns_one_away(typed: Typed, trust: Trust) -> None:
    result = typed(
        *("get", "svc", "--coordinator", trust.served.address, "--ca", str(trust.ca)),
        *("--server-name", "coordinator.test"),
    )
    assert result.exit_code == 3
    assert trust.served.twin.requests == []


def test_without_tls_a_tls_server_is_unreachable_and_the_line_says_so(
    typed: Typed, trust: Trust
) -> None:
    result = typed("get", "svc", "--coordinator", trust.served.address)
    assert result.exit_code == 3
    assert "if it speaks TLS, give --ca" in result.stderr
