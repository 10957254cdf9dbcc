"""What users of other autoscalers complain of, played: each script says what must come out instead.

``*.txt`` beside this file are scripts as transcripts have them (``tests/core/test_transcripts.py``), with
verbs of their own below. Not the story is held against a record, only what a script expects of it.
``docs/complaints.md`` lists them all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale.words import GateState, InstanceState, Role
from heteroscale_coordinator.core.events import DrainInstance, ReinstateInstance
from heteroscale_coordinator.core.model import Action, Verb
from tests.core.test_transcripts import Teller

FOLDER = Path(__file__).parent


class Judge(Teller):
    """Plays a script, and holds its story to what the script expects."""

    def __init__(self) -> None:
        super().__init__()
        self._marked = (0, 0)

    # ---- what happens ----------------------------------------------------------------------------

    def do_startup(self, seconds: str) -> None:
        self.world.startup = float(seconds)

    def do_stillborn(self, *names: str) -> None:
        for name in names:
            self.world.agents[name].stillborn = True
        self._say(f"engines never get ready on: {' '.join(names)}")

    def do_start_by_hand(self, role: str, name: str) -> None:
        self._say(f"somebody starts one {role} on {name} by hand")
        self.world.start_by_hand(Role(role), name)

    def do_drain(self, role: str) -> None:
        one = self.world.instances(Role(role), InstanceState.IN_SERVICE)[0]
        self.world.send(DrainInstance("r", one))
        self._say(f"an operator drains one {role}")

    def do_call_back(self, role: str) -> None:
        one = self.world.instances(Role(role), InstanceState.DRAINING)[0]
        self.world.send(ReinstateInstance("r", one))
        self._say(f"an operator calls one {role} back from its drain")

    # ---- what must come out ----------------------------------------------------------------------

    def do_mark(self) -> None:
        """Orders and decisions are counted from here."""
        self._marked = (len(self.world.commands), len(self.world.decisions))

    def do_expect(self, what: str, sign: str, number: str) -> None:
        found, wished = self._figure(what), int(number)
        fine = {"=": found == wished, "<=": found <= wished, ">=": found >= wished}
        story = "\n".join(self.lines)
        assert fine[sign], f"{what} is {found}, expected {sign} {number}:\n{story}"

    def _figure(self, what: str) -> int:
        """Return a count: in service by role, orders by verb, decisions by action, or one below."""
        if what in ("prefill", "decode"):
            return self.world.serving(Role(what))
        if what == "groups_apart":
            return len(self.world.groups_apart("s1"))
        if what == "not_routable":
            known = self.world.state.instances.values()
            serving = [i for i in known if i.state is InstanceState.IN_SERVICE]
            return sum(i.gate_state is not GateState.OPEN for i in serving)
        commands, decisions = self._marked
        orders = [str(c.verb) for c in self.world.commands[commands:]]
        acts = [str(d.action) for d in self.world.decisions[decisions:]]
        names = {*map(str, Verb), *map(str, Action), "orders"}
        assert what in names, f"{what} is none of {sorted(names)}"
        return len(orders) if what == "orders" else (orders + acts).count(what)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_it_comes_out_as_it_should(path: Path) -> None:
    Judge().play(path.read_text(encoding="utf-8"))


def test_what_is_not_expected_is_told_with_its_story() -> None:
    with pytest.raises(AssertionError, match=r"(?s)launch is 3, expected = 0:.*2s  repair"):
        Judge().play("agents 8\napply\nrun 10\nexpect launch = 0")
