"""Each mistake of the catalogue turns a test red; without a mistake the same tests are green."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.harness import PATIENCE, ROOT, NoVerdictError, run, text_of, try_mutant

pytestmark = pytest.mark.timeout(PATIENCE + 30)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_mistake_turns_a_test_red(mutant: Mutant, tmp_path: Path) -> None:
    verdict = try_mutant(mutant, tmp_path)
    assert verdict.caught_by, f"no test noticed that {mutant.name}:\n{verdict.output[-2000:]}"


def test_without_a_mistake_the_same_tests_are_green() -> None:
    """Else they would be red for a reason of their own."""
    tests = tuple(sorted({test for mutant in MUTANTS for test in mutant.tests}))
    verdict = run(tests, {})
    assert not verdict.caught_by, verdict.output[-2000:]


def test_the_copy_is_what_runs(tmp_path: Path) -> None:
    """A mistake that nothing can load is noticed whatever the tests say."""
    known = next(one for one in MUTANTS if one.module.endswith("/victims.py"))
    broken = replace(known, becomes="        this is no Python\n")
    with pytest.raises(NoVerdictError, match="SyntaxError"):
        try_mutant(broken, tmp_path)


def test_a_snippet_that_is_not_there_once_is_said_loudly() -> None:
    gone = replace(MUTANTS[0], snippet="if nobody_ever_wrote_this:")
    source = (ROOT / gone.module).read_text(encoding="utf-8")
    with pytest.raises(NoVerdictError, match="occurs 0 times"):
        text_of(gone, source)
    with pytest.raises(NoVerdictError, match=r"occurs \d+ times"):
        text_of(replace(gone, snippet="return"), source)
