"""The command line of ``heteroscale advise``, and the files that it names."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heteroscale.documents import parse_duration
from heteroscale.words import Role
from heteroscale_advisor.ask import step_for
from heteroscale_advisor.files import Files, UsageError, read_files
from heteroscale_advisor.policy import ADVISED, PAIR
from heteroscale_advisor.wishes import Wishes
from heteroscale_coordinator.edge.prometheus.spec import PrometheusSpec

STDOUT = Path("-")
LONGEST = 31 * 86_400.0
_EPILOG = """\
Nothing is installed, started or changed: a Prometheus that scrapes your engines already is read.
Thanos, Mimir and VictoriaMetrics speak the same API.

  heteroscale advise --prometheus http://prometheus:9090 --service chat
  heteroscale advise --prometheus http://prometheus:9090 --service chat --since 7d --html chat.html
  heteroscale advise --prometheus https://mimir/prometheus --service chat --select 'namespace="llm"' \\
      --prefill 'pod=~"chat-prefill-.*"' --decode 'pod=~"chat-decode-.*"' --gpus prefill=4,decode=8

A login comes from files or the environment, never from the command line: --token-file, or
HETEROSCALE_PROMETHEUS_TOKEN, or HETEROSCALE_PROMETHEUS_USERNAME and HETEROSCALE_PROMETHEUS_PASSWORD;
or a document of kind Signals (-f), which holds everything that is said here of the Prometheus, and
queries of your own. A document of kind Service (-f) is the policy to be tried; its `signals` are read
too, and a document of kind Coordinator has the addresses of the Prometheuses that they name.

Exit codes: 0 done, 1 the Prometheus or what is in it cannot be used, 2 wrong usage, 130 interrupted.
"""


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    wishes: Wishes
    json: Path | None
    html: Path | None
    write: Path | None
    show_queries: bool
    quiet: bool


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(
        prog="heteroscale advise",
        description="What would the joint policy have done with your traffic? Read from a Prometheus.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--prometheus", metavar="URL", help="its address, as far as /api/v1 goes")
    add("--service", metavar="NAME", help="value of model_name, service, app, job or namespace")
    add(
        "--since",
        type=_duration,
        default=86_400.0,
        metavar="24h",
        help="how far back (default 24h)",
    )
    add(
        "-f",
        "--file",
        action="append",
        type=Path,
        default=[],
        help="kind Service, Signals or Coordinator; may be given several times",
    )
    _finding(result.add_argument_group("what is the service's"))
    _judging(result.add_argument_group("what it is judged by"))
    _reaching(result.add_argument_group("how the Prometheus is reached"))
    _telling(result.add_argument_group("what is told"))
    return result


def _finding(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--select", metavar="MATCHERS", help="""its series, e.g. 'namespace="llm",job="chat"'""")
    add("--prefill", metavar="MATCHERS", help="""prefill instances, e.g. 'pod=~"p-.*"'""")
    add("--decode", metavar="MATCHERS", help="decode instances")
    add("--aggregated", action="store_true", help="every instance does prefill and decode")
    add(
        "--instance-label",
        metavar="LABEL",
        help="tells instances apart (default: pod, or instance)",
    )


def _judging(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--slo-ttft", type=_duration, metavar="1s", help="promised mean time to first token")
    add("--slo-tbt", type=_duration, metavar="50ms", help="promised mean time between tokens")
    add("--gpus", type=_per_role(int), default={}, metavar="prefill=N,decode=N", help="GPUs of one")
    add(
        "--gpu-types",
        type=_per_role(str),
        default={},
        metavar="prefill=H20,decode=H20",
        help="where no label says them",
    )
    add(
        "--startup", type=_duration, metavar="2m", help="from a launch until it serves (default 2m)"
    )
    add("--step", type=_duration, metavar="60s", help="width of a slot (default: by --since)")


def _reaching(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--token-file", metavar="FILE", help="bearer token")
    add("--ca-file", metavar="FILE", help="certificates to trust")
    add("--tenant", metavar="ID", help="X-Scope-OrgID of Mimir and Cortex")
    add("--timeout", type=_duration, metavar="30s", help="for each request")


def _telling(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--html", type=Path, metavar="FILE", help="a page to show")
    add("--json", type=Path, metavar="FILE", help="figures for programs; - is standard output")
    add("--write", type=Path, metavar="FILE", help="the service as it was played, to be applied")
    add("--show-queries", action="store_true", help="print the PromQL and end")
    add("--quiet", action="store_true", help="print nothing but errors")


def options(argv: Sequence[str], now: float) -> Options:
    """Return what a command line asks for at ``now`` (seconds since 1970).

    Raises:
        UsageError, DocumentError: what is wrong, and what would be right.

    """
    given = parser().parse_args(argv)
    files = read_files(given.file)
    service = given.service or files.name
    if not service:
        raise UsageError("--service NAME is missing: the model's name, or its job's")
    since, step = given.since, given.step or step_for(given.since)
    if not 600 <= since <= LONGEST:  # noqa: PLR2004 - less shows nothing
        raise UsageError("--since is between 10m and 31d")
    if step < 1 or step != round(step) or since / step < 10:  # noqa: PLR2004 - likewise
        raise UsageError("--step is whole seconds, and at most a tenth of --since")
    end = (now // step) * step
    return Options(
        Wishes(
            service=service,
            prometheus=_prometheus(given, files),
            since=since,
            end=end,
            step=step,
            spec=files.service,
            ttft=given.slo_ttft,
            tbt=given.slo_tbt,
            gpus=given.gpus,
            aggregated=_aggregated(given, files),
            gpu_types=given.gpu_types,
            startup=given.startup,
        ),
        given.json,
        given.html,
        given.write,
        given.show_queries,
        given.quiet,
    )


def _aggregated(given: argparse.Namespace, files: Files) -> bool:
    """Return whether every instance does all: as the command line says, or the file."""
    alone = files.service is not None and Role.AGGREGATED in files.service.roles
    if given.aggregated and (given.prefill or given.decode or (files.service and not alone)):
        raise UsageError("--aggregated, or prefill and decode; not both")
    return given.aggregated or alone


def _prometheus(given: argparse.Namespace, files: Files) -> PrometheusSpec:
    roles = {r.value: getattr(given, r.value) for r in PAIR if getattr(given, r.value)}
    said = {
        "url": given.prometheus,
        "select": given.select,
        "roles": roles or None,
        "instance_label": given.instance_label,
        "bearer_token_file": given.token_file,
        "ca_file": given.ca_file,
        "tenant": given.tenant,
        "timeout": given.timeout,
    }
    laid = {name: value for name, value in said.items() if value is not None}
    written = files.prometheus(address=given.prometheus is None) | laid
    if "url" not in written:
        raise UsageError(
            "--prometheus URL is missing, e.g. http://prometheus:9090; or name the coordinator's "
            "document too (-f), which has the address of its `prometheus`"
        )
    try:
        return PrometheusSpec.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{field}: {first['msg'].removeprefix('Value error, ')}") from None


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _per_role(kind: Callable[[str], Any]) -> Callable[[str], Mapping[Role, Any]]:
    def read(text: str) -> Mapping[Role, Any]:
        found = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            try:
                role, made = Role(name.strip()), kind(value.strip())
            except ValueError:
                role, made = Role.FFN, None
            if not equals or role not in ADVISED or not made or (kind is int and made < 1):
                raise argparse.ArgumentTypeError(
                    f"{part!r}: write prefill=VALUE,decode=VALUE, or aggregated=VALUE"
                )
            found[role] = made
        return found

    return read
