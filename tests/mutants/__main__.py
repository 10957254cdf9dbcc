"""``python -m tests.mutants [WORD …]``: tell of each mutant which test catches it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.harness import NoVerdictError, try_mutant


def main(words: Sequence[str]) -> int:
    """Try the mutants whose names contain every word; 1 when one of them survives."""
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in words)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        told = list(pool.map(_tell, chosen))
    survivors = sum(not caught for caught, _ in told)
    for _, line in told:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{len(told) - survivors} of {len(told)} mutants caught\n")
    return 1 if survivors or not told else 0


def _tell(mutant: Mutant) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            caught = try_mutant(mutant, Path(folder)).caught_by
        except NoVerdictError as error:
            return False, f"no verdict  {mutant.name}: {error}"
    return bool(
        caught
    ), f"{'caught' if caught else 'SURVIVED':11} {mutant.name}: {', '.join(caught)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
