"""``heteroscale engine-sim``: starts one simulated engine."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from heteroscale_simulator.profiles import EngineProfile, Selection, load_profile
from heteroscale_workbench.engine_sim.faults import FAULTS, Faults, ProcessFault, read_faults
from heteroscale_workbench.engine_sim.process import serve
from heteroscale_workbench.engine_sim.settings import Flavour, Mode, Settings, parse_domain

EPILOG = """\
A pair behind the real router, on one machine:

  heteroscale engine-sim --mode prefill --port 8101 --bootstrap-port 9101 --gpu L20 --startup 0 &
  heteroscale engine-sim --mode decode  --port 8102 --gpu H20 --startup 0 &
  python -m sglang_router.launch_router --port 8000 --pd-disaggregation --disable-retries \\
      --prefill http://127.0.0.1:8101 9101 --decode http://127.0.0.1:8102 &
  curl -N localhost:8000/v1/completions -H 'Content-Type: application/json' \\
      -d '{"model": "simulated", "prompt": "any words at all", "max_tokens": 20, "stream": true}'

Tokens of a text prompt are its words; every request gets exactly max_tokens tokens, " a" each.
While it starts, the port refuses connections. SIGTERM cuts what is in flight, as vLLM does.
A profile is a shipped one (demo), a YAML file (kind: EngineProfile), or a folder with
profile_{prefill,decode,summary}_by_gpu.csv, for which --model says the rows to read.
--gpu-state writes {"pid", "busy": 0..1, "memory": 0..1, "port"} twice a second.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    result = argparse.ArgumentParser(
        prog="heteroscale engine-sim",
        description="A simulated inference engine: real HTTP, queues and signals, imagined GPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=30000)
    add("--mode", choices=[m.value for m in Mode], default=Mode.AGGREGATED.value)
    add(
        "--metrics",
        choices=[f.value for f in Flavour],
        default=Flavour.SGLANG.value,
        help="whose metric names /metrics speaks (default: sglang)",
    )
    add("--bootstrap-port", type=int, default=8998, help="where a prefill hands out KV")
    add("--served-model-name", help="default: the profile's model")
    _imitation(result.add_argument_group("what it imitates"))
    _watching(result.add_argument_group("end, watching, faults"))
    return result


def _imitation(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--profile", default="demo", help="name, YAML file or folder of tables (default: demo)")
    add("--gpu", help="GPU type of the profile (default: its first)")
    add("--model", default="Llama-3.1-8B", help="rows to read from a folder of tables")
    add("--weights-dtype", default="bfloat16", help="rows to read from a folder of tables")
    add("--tp", type=int, default=1, help="rows to read from a folder of tables")
    add("--speed", type=_positive, default=1.0, help="divides every time of the profile")
    add(
        "--startup",
        type=_not_negative,
        metavar="S",
        help="seconds until the port opens, not divided (default: the profile's, divided)",
    )
    add(
        "--domain",
        type=parse_domain,
        default={},
        metavar="s0=N,s1=N,s2=N",
        help="network place; decides how fast KV comes from another instance",
    )
    add("--cache-hit", type=_share, default=0.0, help="share of prompts in the prefix cache, 0..1")
    add(
        "--kv-lease",
        type=_positive,
        metavar="S",
        default=300.0,
        help="seconds a prefill keeps KV that nobody fetches (default: 300)",
    )
    add(
        "--enable-pd-role-switch",
        action="store_true",
        help="let POST /pd_role_switch change between prefill and decode, as SGLang does",
    )


def _watching(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--shutdown-timeout",
        type=_not_negative,
        default=0.0,
        metavar="S",
        help="SIGTERM waits this long for requests in flight (default: 0, they are cut)",
    )
    add("--gpu-state", type=Path, metavar="FILE", help="where to write how busy the GPU is")
    add(
        "--seen-dir",
        type=Path,
        metavar="DIR",
        default=os.environ.get("HETEROSCALE_SEEN_DIR"),
        help="append every request id to a file there, to tell retries "
        "(default: $HETEROSCALE_SEEN_DIR)",
    )
    add("--fault", action="append", choices=FAULTS, default=[], help="misbehave; repeatable")
    add(
        "--allow-faults",
        action="store_true",
        help='let POST /_fault {"metrics": "hang"|…|null, "unhealthy": bool} switch faults',
    )


def settings_of(options: argparse.Namespace, profile: EngineProfile) -> Settings:
    """Return the settings that the options say.

    Raises:
        KeyError: the profile has no such GPU type.

    """
    gpu = options.gpu or next(iter(profile.gpus))
    default_startup = profile.gpu(gpu).startup / options.speed
    return Settings(
        mode=Mode(options.mode),
        flavour=Flavour(options.metrics),
        profile=profile,
        gpu=gpu,
        host=options.host,
        port=options.port,
        bootstrap_port=options.bootstrap_port,
        speed=options.speed,
        startup=default_startup if options.startup is None else options.startup,
        shutdown_timeout=options.shutdown_timeout,
        kv_lease=options.kv_lease,
        cache_hit=options.cache_hit,
        model=options.served_model_name or profile.model,
        domain=options.domain,
        gpu_state=options.gpu_state,
        seen_dir=Path(options.seen_dir) if options.seen_dir else None,
        allow_faults=options.allow_faults,
        role_switch=options.enable_pd_role_switch,
    )


def run(argv: list[str]) -> int:
    """Run one engine until it is told to stop; return the exit status."""
    options = parser().parse_args(argv)
    faults: Faults = read_faults(options.fault)
    if faults.process is ProcessFault.EXIT_AT_ONCE:
        print("engine-sim: told to exit at once", file=sys.stderr)
        return 3
    try:
        selection = Selection(options.model, options.weights_dtype, options.tp)
        settings = settings_of(options, load_profile(options.profile, selection))
        return asyncio.run(serve(settings, faults))
    except KeyError as error:
        print(f"engine-sim: {error.args[0]}", file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"engine-sim: {error}", file=sys.stderr)
    return 2


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
