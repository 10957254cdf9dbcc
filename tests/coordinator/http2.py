"""HTTP/2 written by hand, for what no gRPC client does: dripping, never reading."""

from __future__ import annotations

from heteroscale.v1 import agent_pb2
from tests.coordinator.face import CONNECT


def data_frame(stream: int, payload: bytes) -> bytes:
    return frame(0, 0, stream, payload)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def raw_call(message: agent_pb2.Hello) -> bytes:
    """Return HTTP/2 by hand: preface, settings, a call of Connect, a hello, a message begun."""

    def field(name: str, value: str) -> bytes:
        return b"\x00" + b"".join(bytes([len(t)]) + t.encode() for t in (name, value))

    headers = b"".join(
        field(name, value)
        for name, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", CONNECT),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        )
    )
    body = agent_pb2.ConnectRequest(sequence=1, hello=message).SerializeToString()
    return b"".join(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            frame(4, 0, 0, b""),
            frame(1, 4, 1, headers),
            data_frame(1, b"\x00" + len(body).to_bytes(4) + body),
            data_frame(1, b"\x00" + (65_536).to_bytes(4)),
        ]
    )
