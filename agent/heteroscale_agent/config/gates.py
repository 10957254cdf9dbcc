"""Gates: how traffic is let in and kept out, as far as this host must be told.

A command names one of these by its name. Commands, files outside the gate folder, addresses and
secrets stand here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, PositiveInt, model_validator

from heteroscale.documents import DocumentModel, Duration
from heteroscale_agent.config.fields import Name


class Hook(DocumentModel):
    """Commands a `hook` gate runs; {instance_id}, {endpoint}, {role} and {service} are filled in.

    `check` exits 0 when traffic reaches the instance, 1 when it does not; anything else is unknown.
    """

    open: Annotated[tuple[str, ...], Field(min_length=1)]
    """Lets traffic in; exit code 0 means it was done."""
    close: Annotated[tuple[str, ...], Field(min_length=1)]
    """Keeps traffic out; no drain goes on before it was done."""
    check: tuple[str, ...] = ()
    """Asked every `reconcileInterval`. Without it `open` and `close` are believed."""
    timeout: Duration = 10.0
    """A command that takes longer is killed."""


class Secret(DocumentModel):
    """A header's value that is not for the eyes of everybody: read anew for each request."""

    file: Path | None = None
    """Its first line is the value."""
    env: str = ""
    """Or this variable of the agent's environment is."""
    prefix: str = ""
    """Put before it, e.g. `Bearer ` with a blank."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (not self.env):
            raise ValueError("give `file` or `env`, one of the two")
        return self


class HttpCall(DocumentModel):
    """One request; {instance_id}, {endpoint}, {host}, {port}, {role} and {service} are filled in.

    In the URL they are percent-encoded.
    """

    url: str
    """http:// or https://."""
    method: Literal["GET", "PUT", "POST", "PATCH", "DELETE"] = "POST"
    """How it is asked."""
    body: JsonValue = None
    """Sent as JSON; the names are filled into every text of it."""
    headers: dict[str, str] = {}
    """Headers that everybody may know."""
    secrets: dict[str, Secret] = {}
    """Headers that nobody may, by name."""
    expect: tuple[PositiveInt, ...] = (200, 201, 202, 204)
    """Statuses that mean that it was done. Add 404 where closing what is gone answers so."""

    @model_validator(mode="after")
    def _url(self) -> Self:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url {self.url!r} is no http:// or https:// URL")
        return self


class HttpCheck(HttpCall):
    """A request whose answer tells whether traffic reaches the instance; else it is unknown."""

    method: Literal["GET", "PUT", "POST", "PATCH", "DELETE"] = "GET"
    """How it is asked."""
    in_statuses: tuple[PositiveInt, ...] = (200,)
    """Statuses that say it is in; with `pointer`, statuses whose body is looked at."""
    out_statuses: tuple[PositiveInt, ...] = (404,)
    """Statuses that say it is out."""
    pointer: str = ""
    """RFC 6901, e.g. `/state`: the value there says it. Nothing there is unknown."""
    in_values: tuple[JsonValue, ...] = (True,)
    """Values at `pointer` that say it is in."""
    out_values: tuple[JsonValue, ...] = (False,)
    """Values at `pointer` that say it is out."""
    lists: str = ""
    """Instead of values: a list of texts stands at `pointer`, and it is in when this is one of them,
    e.g. `{endpoint}`; out when it is not."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if set(self.in_statuses) & set(self.out_statuses):
            raise ValueError("a status cannot be in both inStatuses and outStatuses")
        if self.pointer and not self.pointer.startswith("/"):
            raise ValueError(f"pointer {self.pointer!r} must begin with /")
        if self.lists and not self.pointer:
            raise ValueError("lists needs a `pointer` to the list")
        return self


class HttpHook(DocumentModel):
    """Requests that an `http` gate makes."""

    open: HttpCall
    """Lets traffic in."""
    close: HttpCall
    """Keeps traffic out; no drain goes on before it was done."""
    check: HttpCheck | None = None
    """Asked every `reconcileInterval`. Without it `open` and `close` are believed."""
    timeout: Duration = 3.0
    """An answer that takes longer is none."""
    ca: Path | None = None
    """Authorities for https, instead of the system's."""


class Upstream(DocumentModel):
    """A file of servers that a proxy of this host includes, one line each, for `upstream-file`.

    The agent writes its own lines, each with a comment that says whose it is, and leaves all others
    as they are.
    """

    path: Path
    """The file. It stands inside `upstream NAME { include …; }` of nginx, or is one of the files
    haproxy is started with (`header` then opens the backend)."""
    format: Literal["nginx", "haproxy"] = "nginx"
    """How a line looks, unless `line` says it, and how a reload is verified."""
    line: str = ""
    """One server; {host}, {port}, {instance_id}, {name}, {role}, {service} are filled in. Default:
    `server {host}:{port};` for nginx, `server {name} {host}:{port} check` for haproxy."""
    header: tuple[str, ...] = ()
    """Lines a new file begins with."""
    empty: str | None = None
    """A line for when nobody is in. Default: `server 127.0.0.1:1 down;` for nginx, which needs one;
    nothing for haproxy."""
    check: tuple[str, ...] = ()
    """Run before each reload, e.g. [nginx, -t]; when it fails, there is none."""
    reload: Annotated[tuple[str, ...], Field(min_length=1)]
    """Makes the proxy read the file, e.g. [nginx, -s, reload]."""
    pid_file: Path | None = None
    """Where the proxy's master writes its pid. With it a reload counts only when new workers were
    seen; without it the exit code of `reload` is believed."""
    timeout: Duration = 10.0
    """A command that takes longer is killed."""


class Haproxy(DocumentModel):
    """Servers of one HAProxy backend, steered over its stats sockets, for `haproxy-socket`."""

    sockets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Every proxy's socket at `level admin`: an absolute path, or host:port."""
    backend: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
    """The backend. A server there with the instance's address is used; else one is added, which needs
    HAProxy 2.6 and a dynamic `balance`."""
    closed: Literal["drain", "maint"] = "drain"
    """`drain` lets clients through that stick to a server (cookies, stick tables); `maint` nobody, but
    cuts sessions where `on-marked-down shutdown-sessions` is set."""
    server: str = "check"
    """What else an added server's line says."""
    timeout: Duration = 3.0
    """An answer that takes longer is none."""

    @model_validator(mode="after")
    def _sockets(self) -> Self:
        for socket in self.sockets:
            host, _, port = socket.rpartition(":")
            if not socket.startswith("/") and not (host and port.isdigit()):
                raise ValueError(f"socket {socket!r} is neither an absolute path nor host:port")
        return self


class Pods(DocumentModel):
    """Which pod a `labels` gate means where the instance does not say; `kubernetes` says how it is asked.

    The service account needs get and patch on pods.
    """

    namespace: str = ""
    """Where pods named without one are; default: the service account's."""
    pod: str = ""
    """The pod that is meant, whatever a service's options say, unless the instance is in one of its own;
    default: POD_NAME of the environment, the agent's own pod where it is a sidecar."""
    timeout: Duration = 5.0
    """An answer that takes longer is none."""


class Gates(DocumentModel):
    """What gates of this host may use, by the names that services say."""

    http: dict[Name, HttpHook] = {}
    """For `http` gates."""
    upstreams: dict[Name, Upstream] = {}
    """For `upstream-file` gates."""
    haproxy: dict[Name, Haproxy] = {}
    """For `haproxy-socket` gates."""
    labels: Pods = Pods()
    """For `labels` gates."""
