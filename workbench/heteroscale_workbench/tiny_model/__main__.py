"""``python -m heteroscale_workbench.tiny_model FOLDER``: write the tiny model for real engines."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from heteroscale_workbench.tiny_model import write


def main(argv: list[str]) -> int:
    """Write the model; the paths are printed."""
    parser = argparse.ArgumentParser(prog="tiny_model", description=__doc__)
    parser.add_argument("folder", type=Path, help="made if absent")
    parser.add_argument("--seed", type=int, default=0, help="another model (default: 0)")
    options = parser.parse_args(argv)
    directory, file = write(options.folder, seed=options.seed)
    print(f"vLLM, SGLang: {directory}\nllama.cpp:    {file}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
