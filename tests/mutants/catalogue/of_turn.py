"""Mistakes in the turn and in the loop around it."""

from __future__ import annotations

from tests.mutants.catalogue.mutant import Mutant, core

MUTANTS = (
    core(
        "a paused service acts",
        "evaluate.py",
        "    if service.paused or service.spec.watched or service.deleting:\n",
        "    if service.deleting:\n",
        "turn",
    ),
    core(
        "a time that nobody watched counts as observation",
        "resume.py",
        "soft=replace(soft, at=soft.at + away, until=soft.until + away) if soft else None",
        "soft=soft",
        "test_restart.py",
    ),
    core(
        "a service that raises stops the others",
        "step.py",
        "        _quarantine(draft, name, error)\n",
        "        raise\n",
        "turn",
    ),
    core(
        "what stands on a cordon comes back first",
        "carry.py",
        "    return sorted(instances, key=draft.on_cordon)\n",
        "    return list(instances)\n",
        "turn/test_cordon.py",
    ),
    core(
        "a shortage drains what is cordoned",
        "shortage.py",
        "    if draft.on_cordon(instance):\n        return False",
        "    if draft.on_cordon(instance):\n        pass",
        "test_shortage.py",
    ),
    Mutant(
        "what is not committed takes effect",
        "coordinator/heteroscale_coordinator/loop.py",
        "        if not await self._writer.commit(changes, learned, now):\n"
        "            self._hold(letters)\n"
        "            return False\n",
        "        await self._writer.commit(changes, learned, now)\n",
        ("tests/coordinator/test_loop.py",),
    ),
)
