"""The speeds of a model on the GPU types of a fleet: measured where they are, estimated where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from heteroscale_coordinator.core.spec import ModelSpec
from heteroscale_simulator.profiles.hardware import hardware, short_name
from heteroscale_simulator.profiles.measurements import Measurements
from heteroscale_simulator.profiles.model import EngineProfile, GpuProfile
from heteroscale_simulator.profiles.roofline import Roofline
from heteroscale_simulator.profiles.shapes import shapes
from heteroscale_simulator.profiles.shipped import measured_engines
from heteroscale_simulator.profiles.tables import (
    Selection,
    engines_in,
    has_tables,
    read_measurements,
)
from heteroscale_simulator.profiles.transfer import DEFAULT_TRANSFER

DEFAULT_MODEL = ModelSpec(name="Llama-3.1-8B", weights="bfloat16")
"""What a service serves that does not say; whoever takes it says so aloud."""


def speeds_for(
    model: ModelSpec | None,
    gpu_types: Sequence[str],
    gpus: int,
    folder: Path | None = None,
    *,
    extend: bool = False,
) -> EngineProfile:
    """Return the speeds of ``model`` on each of ``gpu_types``, under the names given.

    Args:
        model: None takes ``DEFAULT_MODEL``.
        gpu_types: names as agents report them (``H100``) or as tables do (``H100-SXM-80GB``).
        gpus: GPUs of one instance, joined by tensor parallelism.
        folder: tables of one's own (``profile_{prefill,decode,summary}_by_gpu.csv``), which then
            are all there is; ``models.csv`` and ``hardware.csv`` in it add to the shipped ones.
            None takes the shipped catalogue.
        extend: estimate beyond the edge of one's own tables, which refuse it otherwise. The shipped
            ones are always extended.

    Each profile tells its ``source`` and how far it was ``measured``.

    Raises:
        ValueError: no speed is known for a type, with what there is; a file is wrong; a model does
            not fit; tables of one's own end before their KV capacity.

    """
    model = model or DEFAULT_MODEL
    engine = Selection(model.name, model.weights, gpus)
    if folder and not folder.is_dir():
        raise ValueError(f"{folder}: no folder of tables")
    shape = shapes(folder).get(model.name)
    if shape is None:
        raise ValueError(_unknown_model(engine, folder))
    names = dict.fromkeys(gpu_types)
    if folder and has_tables(folder):
        own = read_measurements(folder, engine)
        profiles = {name: _own(name, own, engine, folder, extend=extend) for name in names}
    else:
        profiles = {name: _shipped(name, engine, folder) for name in names}
    return EngineProfile(
        model=model.name,
        kv_bytes_per_token=shape.kv_bytes_per_token,
        transfer=DEFAULT_TRANSFER,
        gpus=profiles,
    )


def _own(
    name: str,
    own: Mapping[str, Measurements],
    engine: Selection,
    folder: Path,
    *,
    extend: bool,
) -> GpuProfile:
    known = hardware(folder)
    alike = [gpu for gpu in own if short_name(gpu, known) == short_name(name, known)]
    if name in own:
        alike = [name]
    if len(alike) != 1:
        what = f"name {name} more than once ({', '.join(alike)})" if alike else f"lack {name}"
        raise ValueError(f"{folder}: its tables {what} for {engine}; they have {_listed(folder)}")
    measured = own[alike[0]]
    if not extend:
        return measured.profile(strict=True)
    return measured.extended(_roofline(name, engine, folder))


def _shipped(name: str, engine: Selection, folder: Path | None) -> GpuProfile:
    roofline = _roofline(name, engine, folder)
    measured = measured_engines().get((roofline.hardware.name, engine))
    return measured.extended(roofline) if measured else roofline.profile()


def _roofline(name: str, engine: Selection, folder: Path | None) -> Roofline:
    known = hardware(folder)
    kind = known.get(short_name(name, known))
    if kind is None:
        where = folder / "hardware.csv" if folder else "hardware.csv of a folder of your own"
        raise ValueError(
            f"no speed is known for {engine} on {name}; known GPU types are"
            f" {', '.join(sorted(known))}; describe it in {where}, or measure it"
        )
    shape = shapes(folder)[engine.model]
    return Roofline(shape, engine.weights_dtype, kind, engine.tensor_parallel)


def _unknown_model(engine: Selection, folder: Path | None) -> str:
    known = sorted(shapes(folder))
    plain = engine.model.rpartition("/")[2].removesuffix("-Instruct")
    alike = get_close_matches(plain, known, n=1)
    hint = f" (did you mean {alike[0]}?)" if alike else ""
    where = folder / "models.csv" if folder else "models.csv of a folder of your own"
    return (
        f"no speed is known for {engine}{hint}; known models are {', '.join(known)};"
        f" describe it in {where}"
    )


def _listed(folder: Path) -> str:
    engines = engines_in(folder).items()
    return "; ".join(f"{gpu}: {', '.join(which)}" for gpu, which in engines) or "none"
