"""How a client reaches the coordinator: address, TLS, keepalive and size limits.

Agents and the command line share this, so that both keep one rule: beyond loopback nothing is dialled
without TLS unless somebody says ``insecure`` aloud.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""A hello with 120 s of history of a large host is about 100 KB; nothing honest is larger than this."""

_KEEPALIVE: list[tuple[str, int]] = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


class ChannelError(ValueError):
    """The address and the TLS settings do not fit together; the text says what to change."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files. ``ca`` alone checks the server; with certificate and key it is mutual."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ChannelError("tls: give both `certificate` and `key`, or neither")

    @property
    def enabled(self) -> bool:
        """Whether any TLS is asked for."""
        return self.ca is not None or self.certificate is not None

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return the bytes of ca, key and certificate; ChannelError names one that is unreadable."""
        return (
            read_pem(self.ca, "ca"),
            read_pem(self.key, "key"),
            read_pem(self.certificate, "certificate"),
        )


def is_loopback(address: str) -> bool:
    """Return whether ``host:port`` or ``unix:…`` stays on this machine."""
    if address.startswith("unix:"):
        return True
    host = address.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_trust(address: str, *, tls: bool, insecure: bool, verb: str) -> None:
    """Raise ChannelError when ``address`` lies beyond loopback and neither TLS nor insecure is set."""
    if tls or insecure or is_loopback(address):
        return
    raise ChannelError(
        f"{verb} {address} without TLS: give TLS files, or say --insecure to accept that anyone "
        "on the network can read and forge this traffic"
    )


def read_pem(path: Path | None, what: str) -> bytes | None:
    """Return the file's bytes, or raise ChannelError naming what it was for."""
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ChannelError(f"tls {what} {path}: {error.strerror}") from error


def open_channel(
    address: str,
    tls: TlsFiles,
    *,
    insecure: bool = False,
    more: Sequence[tuple[str, int | str]] = (),
) -> grpc.aio.Channel:
    """Open a channel to ``host:port``; it connects lazily. ``more``: further channel arguments.

    Raises:
        ChannelError: TLS files are missing or unreadable, or the address needs TLS.

    """
    require_trust(address, tls=tls.enabled, insecure=insecure, verb="dialling")
    options: list[tuple[str, int | str]] = [
        *_KEEPALIVE,
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # Proxies of the environment are for the web, not for a coordinator.
        ("grpc.enable_http_proxy", 0),
        *more,
    ]
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    if not tls.enabled:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(
        address, grpc.ssl_channel_credentials(*tls.read()), options=options
    )
