"""Beyond loopback nothing is dialled without TLS, unless somebody says so aloud."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme

from heteroscale.channel import (
    MAX_MESSAGE_BYTES,
    ChannelError,
    TlsFiles,
    is_loopback,
    open_channel,
    read_pem,
    require_trust,
)

NEAR = ("127.0.0.1:7070", "127.8.9.1:1", "[::1]:7070", "localhost:7070", "unix:/run/x.sock")
FAR = (
    *("10.0.0.1:7070", "0.0.0.0:7070", "[::]:7070", "coordinator.example:443", "[2001:db8::1]:1"),
    *("localhost.example:1", "127.0.0.1.example:1", "127.0.0.1:1,10.0.0.1:1", "dns:10.0.0.1:1"),
    *("", ":7070", "127.1:1", "2130706433:1"),
)


@pytest.mark.parametrize("address", NEAR)
def test_loopback_needs_no_tls(address: str) -> None:
    assert is_loopback(address)
    require_trust(address, tls=False, insecure=False, verb="dialling")


@pytest.mark.parametrize("address", FAR)
def test_anything_else_needs_tls_or_a_word(address: str) -> None:
    assert not is_loopback(address)
    with pytest.raises(ChannelError, match="--insecure") as refused:
        require_trust(address, tls=False, insecure=False, verb="listening on")
    assert str(refused.value).startswith(f"listening on {address} without TLS")
    require_trust(address, tls=True, insecure=False, verb="dialling")
    require_trust(address, tls=False, insecure=True, verb="dialling")


def test_a_certificate_and_its_key_come_together() -> None:
    for certificate, key in ((Path("c.pem"), None), (None, Path("k.pem"))):
        with pytest.raises(ChannelError, match="both `certificate` and `key`"):
            TlsFiles(certificate=certificate, key=key)
    assert not TlsFiles().enabled
    assert TlsFiles(ca=Path("ca.pem")).enabled
    assert TlsFiles(certificate=Path("c.pem"), key=Path("k.pem")).enabled


def test_pem_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    assert read_pem(None, "ca") is None
    with pytest.raises(ChannelError, match=r"tls ca .*none\.pem: No such file or directory"):
        read_pem(tmp_path / "none.pem", "ca")
    with pytest.raises(ChannelError, match=r"tls key .*: Is a directory"):
        read_pem(tmp_path, "key")


async def test_opening_a_channel_checks_before_it_dials(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"dialling 10\.0\.0\.1:1 without TLS"):
        open_channel("10.0.0.1:1", TlsFiles())
    with pytest.raises(ChannelError, match=r"tls ca .*none\.pem"):
        open_channel("10.0.0.1:1", TlsFiles(ca=tmp_path / "none.pem"))
    async with open_channel("10.0.0.1:1", TlsFiles(), insecure=True):
        pass  # it connects when it is used


class Echo(grpc.GenericRpcHandler):
    """Answers every call with what it was sent."""

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        async def echo(request: bytes, context: object) -> bytes:
            return request

        return grpc.unary_unary_rpc_method_handler(echo)


async def call(channel: grpc.aio.Channel, message: bytes = b"hello") -> bytes:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/x/Echo")
    return await method(message, timeout=10)


async def test_the_server_is_checked_against_the_ca_and_its_name(tmp_path: Path) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    certificate = ours.issue_cert("coordinator.example")
    for name, authority in (("ours", ours), ("theirs", theirs)):
        authority.cert_pem.write_to_path(tmp_path / f"{name}.pem")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Echo()])
    pair = (certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    address = f"127.0.0.1:{port}"
    good = TlsFiles(ca=tmp_path / "ours.pem", server_name="coordinator.example")
    try:
        async with open_channel(address, good) as channel:
            assert await call(channel) == b"hello"
        for bad in (
            TlsFiles(ca=tmp_path / "theirs.pem", server_name="coordinator.example"),
            TlsFiles(ca=tmp_path / "ours.pem"),
            TlsFiles(),
        ):
            async with open_channel(address, bad) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call(channel)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await server.stop(None)


async def test_messages_beyond_the_limit_are_refused_on_both_sides() -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([Echo()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{port}", TlsFiles()) as channel:
            assert len(await call(channel, b"x" * (MAX_MESSAGE_BYTES - 1))) == MAX_MESSAGE_BYTES - 1
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(channel, b"x" * (MAX_MESSAGE_BYTES + 1))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        await server.stop(None)
