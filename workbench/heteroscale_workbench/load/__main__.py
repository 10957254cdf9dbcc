"""``heteroscale load``: sends a trace, or made-up traffic, and says what became of every request."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from heteroscale_simulator.traffic.traces import Arrival, Scaling, read_trace, scale
from heteroscale_workbench.load.report import LoadOptions, LoadReport, Snapshot
from heteroscale_workbench.load.run import LoadRun
from heteroscale_workbench.load.shapes import Curve, Lengths, generate
from heteroscale_workbench.load.stats import Latency

PROGRESS_INTERVAL = 0.5
SHOWN_FAILURES = 20
EPILOG = """\
  heteroscale load --url http://127.0.0.1:8000 --shape constant --rate 5 --duration 60
  heteroscale load --url http://127.0.0.1:8000 --shape ramp --rate 1:10 --duration 120
  heteroscale load --url http://127.0.0.1:8000 --shape humps --rate 1 --hump 40:8:30 --hump 75:6:20
  heteroscale load --url http://127.0.0.1:8000 --trace azure.csv.gz --time-scale 10 --rate-scale 0.1

Arrivals never wait for answers. A request passes with HTTP 200, exactly max_tokens tokens, a finish
reason and [DONE]. Retries are told from the ids that engine-sim notes in --seen-dir; without it
they are unknown. The exit status is 0 only if every request passed and none was retried.
Traces: t_s,input_tokens,output_tokens · Azure's TIMESTAMP,ContextTokens,GeneratedTokens · Mooncake's
JSON lines; plain or .gz. --time-scale 10 plays ten times faster, and so at ten times the rate.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(
        prog="heteroscale load",
        description="Open-loop load on an OpenAI completions API.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--url", required=True, help="base URL of a router or an engine")
    add("--model", default="simulated")
    add("--duration", type=float, default=None, metavar="S", help="made-up: default 60")
    add("--seed", type=int, default=0)
    add("--max-tokens", type=int, metavar="N", help="cap on output tokens")
    add("--max-input", type=int, metavar="N", help="cap on prompt tokens")
    add("--timeout", type=float, default=600.0, metavar="S", help="per request (default: 600)")
    group = result.add_argument_group("from a recording")
    add = group.add_argument
    add("--trace", type=Path, metavar="FILE")
    add("--rate-scale", type=float, default=1.0, metavar="K", help="requests for each recorded one")
    add("--time-scale", type=float, default=1.0, metavar="K", help="play K times faster")
    add(
        "--start", type=float, default=0.0, metavar="S", help="skip the recording's first S seconds"
    )
    add("--jitter", type=float, default=0.0, metavar="S", help="spread recordings in coarse steps")
    group = result.add_argument_group("made up")
    add = group.add_argument
    add("--shape", choices=["constant", "ramp", "humps", "diurnal"], default="constant")
    add("--rate", default="1", metavar="R", help="requests/s; ramp: FIRST:LAST; diurnal: its peak")
    add(
        "--hump", action="append", default=[], metavar="AT:RATE:WIDTH", help="seconds:req/s:seconds"
    )
    add("--input-tokens", type=float, default=200, metavar="MEAN")
    add("--output-tokens", type=float, default=64, metavar="MEAN")
    add("--spread", type=float, default=0.0, help="sigma of lognormal lengths (default: 0, alike)")
    group = result.add_argument_group("judging and telling")
    add = group.add_argument
    add("--ttft-slo", type=float, metavar="S", help="goodput: first token within S")
    add("--tbt-slo", type=float, metavar="S", help="goodput: mean time between tokens within S")
    add("--merged-events", action="store_true", help="real engines: several tokens in one event")
    add("--seen-dir", type=Path, metavar="DIR", help="the engines' --seen-dir, to find retries")
    add("--json", nargs="?", const="-", metavar="FILE", help="report as JSON, to FILE or stdout")
    return result


def arrivals_of(options: argparse.Namespace) -> list[Arrival]:
    """Return the arrivals that the options say.

    Raises:
        ValueError: the trace, the shape or a number is wrong.

    """
    if options.trace is not None:
        how = Scaling(
            rate=options.rate_scale,
            time=options.time_scale,
            start=options.start,
            duration=options.duration,
            jitter=options.jitter,
            max_input=options.max_input,
            max_output=options.max_tokens,
        )
        return scale(read_trace(options.trace), how, options.seed)
    lengths = Lengths(options.input_tokens, options.output_tokens, options.spread)
    lengths = Lengths(
        lengths.input_mean,
        lengths.output_mean,
        lengths.spread,
        options.max_input or lengths.max_input,
        options.max_tokens or lengths.max_output,
    )
    duration = options.duration or 60.0
    return generate(_curve(options, duration), lengths, duration, options.seed)


def _curve(options: argparse.Namespace, duration: float) -> Curve:
    rates = [float(part) for part in options.rate.split(":")]
    if options.shape == "ramp":
        first, last = rates
        return Curve.ramp(first, last, duration)
    (rate,) = rates
    if options.shape == "humps":
        humps = [tuple(float(part) for part in hump.split(":")) for hump in options.hump]
        return Curve.humps(rate, [(at, top, width) for at, top, width in humps])
    if options.shape == "diurnal":
        return Curve.diurnal(rate, duration)
    return Curve.constant(rate)


async def execute(options: argparse.Namespace, arrivals: list[Arrival]) -> LoadReport:
    """Run the load; show progress where a person looks on; Ctrl-C stops the sending."""
    load = LoadRun(
        options.url,
        arrivals,
        LoadOptions(
            model=options.model,
            timeout=options.timeout,
            exact_events=not options.merged_events,
            ttft_slo=options.ttft_slo,
            tbt_slo=options.tbt_slo,
            seen_dir=options.seen_dir,
        ),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, load.stop)
    shower = asyncio.create_task(_show(load)) if sys.stderr.isatty() else None
    try:
        return await load.run()
    finally:
        if shower is not None:
            shower.cancel()
            print(file=sys.stderr)


async def _show(load: LoadRun) -> None:
    while True:
        print(f"\r{progress(load.snapshot())}\x1b[K", end="", file=sys.stderr, flush=True)
        await asyncio.sleep(PROGRESS_INTERVAL)


def progress(now: Snapshot) -> str:
    """Return one line about a running load."""
    retried = "?" if now.retried is None else now.retried
    return (
        f"{now.elapsed:6.1f} s  sent {now.sent}/{now.planned}  in flight {now.in_flight}  "
        f"passed {now.passed}  failed {now.failed}  retried {retried}  "
        f"{now.requests_per_s:.1f} req/s  {now.tokens_per_s:.0f} tok/s  "
        f"TTFT {_ms(now.ttft.p95)}  TBT {_ms(now.tbt.p95)} (p95)"
    )


def summary(report: LoadReport) -> str:
    """Return the report for people."""
    retried = (
        "unknown (no --seen-dir)" if report.retried_requests is None else report.retried_requests
    )
    lines = [
        f"requests  {report.requests} in {report.duration:.1f} s",
        f"          {report.passed} passed, {report.failed_requests} failed, retried: {retried}",
        f"goodput   {report.goodput_requests_per_s:.2f} req/s, {report.tokens_per_s:.0f} tok/s",
        f"TTFT      {_latency(report.ttft)}",
        f"TBT       {_latency(report.tbt)}",
        f"late      {report.latest_start * 1000:.0f} ms at most",
    ]
    if report.unseen:
        lines.append(f"WARNING   {report.unseen} passed unseen by any engine: retries not watched")
    if report.local_errors:
        lines.append(f"WARNING   {report.local_errors} failed for want of sockets here")
    lines += [
        f"  {f.kind:8} {f.request_id} at {f.at:.1f} s: {f.reason}"
        for f in report.failures[:SHOWN_FAILURES]
    ]
    more = len(report.failures) - SHOWN_FAILURES
    return "\n".join([*lines, *([f"  … and {more} more"] if more > 0 else [])])


def run(argv: list[str]) -> int:
    """Run a load; the exit status is 0 only if every request passed and none was retried."""
    options = parser().parse_args(argv)
    try:
        arrivals = arrivals_of(options)
    except ValueError as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    if not arrivals:
        print("load: not one request to send", file=sys.stderr)
        return 2
    report = asyncio.run(execute(options, arrivals))
    if options.json is not None:
        text = json.dumps(report.document(), indent=2)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", "utf-8")
    if options.json != "-":
        print(summary(report))
    return 0 if report.clean else 1


def _latency(latency: Latency) -> str:
    parts = (latency.mean, latency.p50, latency.p95, latency.p99)
    return "mean {}  p50 {}  p95 {}  p99 {}".format(*(_ms(part) for part in parts))


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:.0f} ms"


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
