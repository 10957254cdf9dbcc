"""Compiles the NVML stub with whatever C compiler the machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

LIBRARY_NAME = "libnvidia-ml.so.1"
"""Also the SONAME, so that whoever asks the loader for NVML afterwards gets this one."""

_COMPILERS = ("cc", "gcc", "clang")
_DEADLINE = 60.0


class BuildError(Exception):
    """The stub cannot be compiled; the message says what is missing."""


def build(directory: Path, *, without: Iterable[str] = ()) -> Path:
    """Compile the stub into `directory` and return the library's path.

    `without` names functions to leave out, as an older driver would. The file appears whole or not
    at all, so that several processes may build into one directory.

    Raises:
        BuildError: there is no C compiler, or it failed.

    """
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / LIBRARY_NAME
    flags = [f"-DWITHOUT_{name}" for name in without]
    with (
        resources.as_file(resources.files(__package__) / "nvml_stub.c") as source,
        tempfile.TemporaryDirectory(dir=directory) as scratch,
    ):
        output = Path(scratch) / LIBRARY_NAME
        shared = ["-shared", "-fPIC", "-O1", "-Wall", f"-Wl,-soname,{LIBRARY_NAME}"]
        _run([_compiler(), *shared, *flags, "-o", str(output), str(source), "-pthread"])
        output.replace(library)
    return library


def _compiler() -> str:
    for name in filter(None, (os.environ.get("CC"), *_COMPILERS)):
        if (found := shutil.which(name)) is not None:
            return found
    raise BuildError(
        "no C compiler found (looked for cc, gcc and clang): the NVML stub is compiled on the spot; "
        "install one, e.g. `apt-get install gcc libc6-dev`"
    )


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DEADLINE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise BuildError(f"{command[0]} failed:\n{done.stderr[-2000:]}")
