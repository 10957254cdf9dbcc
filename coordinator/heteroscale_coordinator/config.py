"""The coordinator's settings: one YAML document of kind Coordinator, all of it optional.

The command line lays its words over the document; what is set by neither has a default for one
machine: loopback only, SQLite in the data directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from heteroscale.channel import ChannelError, require_trust
from heteroscale.documents import (
    DocumentModel,
    Duration,
    read_one,
)
from heteroscale_coordinator.core.rules import Rules
from heteroscale_coordinator.core.spec import Name
from heteroscale_coordinator.edge.adapters.settings import AdapterSettings
from heteroscale_coordinator.edge.prometheus.spec import WatchedServer
from heteroscale_coordinator.edge.session import Limits
from heteroscale_coordinator.edge.trust import ServerTls

Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:/\s]+):\d{1,5}$")]
Positive = Annotated[Duration, Field(gt=0)]


class TlsSettings(DocumentModel):
    """PEM files of the listener for agents and operators."""

    certificate: Path | None = None
    """The coordinator's certificate; with it the listener speaks TLS."""
    key: Path | None = None
    """Its private key."""
    client_ca: Path | None = None
    """Agents and operators must show a certificate of this CA; its organisational unit says the role:
    heteroscale-agent (its common name is the agent id, or a pattern for it) or heteroscale-operator.
    Without it whoever reaches the port may be either."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        self.files()
        return self

    def files(self) -> ServerTls:
        """Return them as the server wants them."""
        return ServerTls(self.certificate, self.key, self.client_ca)


class HttpSettings(DocumentModel):
    """Metrics and health, in plain HTTP, read only."""

    listen: Address | Literal[""] = "127.0.0.1:7071"
    """host:port; empty: none."""
    insecure: bool = False
    """Serve them beyond loopback, where anyone on the network reads them."""


class KedaSettings(DocumentModel):
    """KEDA's external-scaler API, read only, for services with `actuation: {by: external}`."""

    listen: Address | Literal[""] = ""
    """host:port, e.g. 0.0.0.0:7072; empty: none. With the certificate of `tls`; with its `clientCa` KEDA
    must show a certificate of the organisational unit heteroscale-keda."""
    insecure: bool = False
    """Serve it beyond loopback without TLS: anyone on the network reads and forges the counts."""


class ClusterSettings(DocumentModel):
    """The Kubernetes cluster that the coordinator itself runs on. Wants the extra `kubernetes`."""

    lease: Annotated[str, Field(pattern=r"^([a-z0-9.-]+/[a-z0-9.-]+)?$")] = ""
    """namespace/name of the Lease by which one of several coordinators leads; empty: there is one only.
    Who waits for it is alive and not ready. Who loses it ends at once."""
    objects: bool = False
    """Services come from objects of kind ScaledService, whose status and events tell what came of them.
    `heteroscale apply` works beside it."""
    namespace: str = ""
    """Only the objects of this namespace; empty: of all."""
    kubeconfig: Path | None = None
    """File with the login; unset: of the pod that this runs in, else $KUBECONFIG, else ~/.kube/config."""
    context: str | None = None
    """Which of the file's contexts; unset: its current."""


Servers = Annotated[dict[Name, WatchedServer], Field(max_length=16)]


class AdmissionSettings(DocumentModel):
    """How agents are let in when all come at once."""

    hellos_per_second: PositiveFloat = 400.0
    """The rest wait in line. Each hello costs a few milliseconds; too high starves reports."""
    burst: PositiveInt = 100
    """So many are let in at once before the line begins."""
    hello_deadline: Positive = 10.0
    """From admission to a whole hello."""
    idle: Positive = 60.0
    """A stream without a whole message for so long is ended."""
    takeover: Duration | None = None
    """A stream silent for longer gives way to another process of its agent id. Default: two report
    intervals, at least 3s. Shorter lets two agents of one id push each other out."""


class LogSettings(DocumentModel):
    """Logs go to stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less important is not written."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto`: lines on a terminal, JSON elsewhere."""


class CoordinatorSpec(DocumentModel):
    """Where the coordinator listens and remembers, and at which pace it works."""

    listen: Address = "127.0.0.1:7070"
    """host:port for agents and operators (gRPC)."""
    cluster_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = "default"
    """Agents configured for another cluster are refused."""
    data_dir: Path = Path("/var/lib/heteroscale-coordinator")
    """State and decisions. One coordinator per directory: it is locked."""
    insecure: bool = False
    """Listen beyond loopback without TLS: anyone who reaches the port can start and stop engines."""
    tls: TlsSettings = TlsSettings()
    http: HttpSettings = HttpSettings()
    keda: KedaSettings = KedaSettings()
    kubernetes: ClusterSettings = ClusterSettings()
    prometheus: Servers = {}
    """Prometheuses by name, e.g. {main: {url: "http://prometheus:9090"}}, for services with
    `signals: {source: prometheus}`."""
    admission: AdmissionSettings = AdmissionSettings()
    adapters: tuple[AdapterSettings, ...] = ()
    """Clusters whose own scheduler starts and stops instances, beside hosts with agents."""
    rules: Rules = Rules()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _adapters_apart(self) -> Self:
        names = [one.name for one in self.adapters]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ValueError(
                f"adapters: two are named {twice!r}; each cluster needs a name of its own"
            )
        if "prometheus" in names:  # `prometheus/<service>` are the watchers of signals
            raise ValueError("adapters: `prometheus` is taken; give the cluster another name")
        return self

    def check_trust(self) -> None:
        """Raise ChannelError when something would listen beyond loopback without a word said."""
        secured = self.tls.files().enabled
        require_trust(self.listen, tls=secured, insecure=self.insecure, verb="listening on")
        if self.http.listen:
            try:
                require_trust(
                    self.http.listen, tls=False, insecure=self.http.insecure, verb="serving HTTP on"
                )
            except ChannelError:
                raise ChannelError(
                    f"metrics on {self.http.listen} would be plain HTTP beyond loopback: say "
                    "--http-insecure (http.insecure: true) if anyone there may read them"
                ) from None
        if self.keda.listen:
            try:
                require_trust(
                    self.keda.listen,
                    tls=secured,
                    insecure=self.keda.insecure,
                    verb="serving KEDA on",
                )
            except ChannelError:
                raise ChannelError(
                    f"the counts for KEDA on {self.keda.listen} would be plain beyond loopback: give "
                    "TLS files, or say --keda-insecure (keda.insecure: true) if anyone there may read "
                    "and forge them"
                ) from None

    @property
    def takeover_after(self) -> float:
        """Seconds of silence after which a stream gives way to another process of its id."""
        if self.admission.takeover is not None:
            return self.admission.takeover
        return max(3.0, 2 * self.rules.report_interval)

    @property
    def limits(self) -> Limits:
        """Deadlines of agents' streams."""
        return Limits(hello=self.admission.hello_deadline, idle=self.admission.idle)


class CoordinatorDocument(DocumentModel):
    """A whole YAML document of kind Coordinator."""

    api_version: Literal["heteroscale/v1"]
    kind: Literal["Coordinator"]
    spec: CoordinatorSpec = CoordinatorSpec()


def load(path: Path) -> CoordinatorSpec:
    """Read the one Coordinator document of ``path``.

    Raises:
        DocumentError: with file, line and field of everything that is wrong.
        OSError: the file cannot be read.

    """
    return read_one(path, "Coordinator").parse(CoordinatorDocument).spec
