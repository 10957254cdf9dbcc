"""The smallest thing that looks like an engine from outside: run as a script, not imported.

usage: tiny_engine.py PORT ROLE [--ready-file PATH] [--ignore-term] [--worker]
Calls a socket at HETEROSCALE-free TINY_CALL=host:port when it is up, so that tests need not wait.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, ROLE, OPTIONS = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
READY = Path(OPTIONS[OPTIONS.index("--ready-file") + 1]) if "--ready-file" in OPTIONS else None
INFO = {
    "disaggregation_mode": "null" if ROLE == "aggregated" else ROLE,
    "served_model_name": "tiny",
    "model_path": "tiny",
    "tp_size": 1,
    "dp_size": 1,
}
ANSWERS: dict[str, object] = {
    "/server_info": INFO,
    "/get_server_info": INFO,
    "/model_info": {"model_path": "tiny", "is_generation": True},
    "/get_model_info": {"model_path": "tiny", "is_generation": True},
    "/v1/models": {"object": "list", "data": [{"id": "tiny", "object": "model"}]},
}


class Handler(BaseHTTPRequestHandler):
    """Answers what routers and agents ask."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ready = READY is None or READY.exists()
        if self.path == "/health":
            self._say(200 if ready else 503, {})
        elif self.path in ANSWERS:
            self._say(200, ANSWERS[self.path])
        else:
            self._say(404, {})

    def _say(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def _leave(number: int, frame: object) -> None:
    del number, frame
    os._exit(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if "--ignore-term" in OPTIONS else _leave)
if "--worker" in OPTIONS:
    worker = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    print("worker", worker.pid, flush=True)  # noqa: T201
server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
print("serving on", PORT, flush=True)  # noqa: T201
if call := os.environ.get("TINY_CALL"):
    host, port = call.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(str(os.getpid()).encode())
server.serve_forever()
