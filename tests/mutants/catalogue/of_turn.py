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
        "quarantine.py",
        "        quarantine(draft, name, error)\n",
        "        raise\n",
        "turn",
    ),
    core(
        "who is low is never looked at while cycles are long",
        "step.py",
        "    chosen = {*names[:share], *longest[:share]}\n",
        "    chosen = {*names[: 2 * share]}\n",
        "turn/test_placing.py",
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
    core(
        "what is found too early is asked of others",
        "external.py",
        "    if not view.covered or still < draft.state.rules.cover_for:",
        "    if not view.covered:",
        "turn/test_external.py::test_agents_that_come_late_shrink_nothing",
    ),
    core(
        "what others have not started yet holds up all else",
        "external.py",
        "    missing = range(len(mine), count)",
        "    missing = range(0)",
        "turn/test_external.py::test_what_is_on_its_way_is_not_asked_for_twice",
    ),
    core(
        "a surplus that others keep is supply",
        "external.py",
        "sorted(mine, key=_last_to_go)[count:]}",
        "sorted(mine, key=_last_to_go)[len(mine):]}",
        "turn/test_external.py::test_a_surplus_is_no_supply_and_is_said",
    ),
    core(
        "the coordinator launches beside others who scale",
        "evaluate.py",
        "    if service.spec.external:\n        external.ask(",
        "    if service.spec.learning:\n        external.ask(",
        "turn/test_external.py::test_an_operator_scales_by_what_is_asked_for",
    ),
    core(
        "old counts are asked for after a time of advice",
        "evaluate.py",
        "    if service.spec.watched or not service.spec.external:",
        "    if not service.spec.external:",
        "turn/test_external.py::test_who_only_looked_on_for_a_while_begins_by_looking",
    ),
)
