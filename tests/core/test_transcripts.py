"""Transcripts: a script of events and the story the turn made of it, kept as text and reviewed as a diff.

Each ``transcripts/*.txt`` holds a script, a line ``----``, and the recorded story. Record again with
``pytest tests/core/test_transcripts.py --record`` and read the diff.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from heteroscale.documents import read_documents
from heteroscale.taints import parse_taint
from heteroscale.words import InstanceState, Role
from heteroscale_coordinator.core.devices import GpuSample
from heteroscale_coordinator.core.events import (
    ApplyService,
    CordonNode,
    DrainInstance,
    InventoryLearned,
    ResumeService,
    ScaleService,
    UncordonNode,
)
from heteroscale_coordinator.core.model import Action, Decision, Instance, Verb
from heteroscale_coordinator.core.spec import ServiceSpec
from tests.core.world import World

FOLDER = Path(__file__).parent / "transcripts"
SERVICE = """
roles:
  prefill: {template: prefill, gpuTypes: [L20, H20], min: 1, max: 10, target: 5000}
  decode: {template: decode, gpuTypes: [H20, L20], min: 2, max: 20, target: 1000}
ratio: "1:2"
slo: {ttft: 1s, tbt: 50ms}
"""
WHOLE = """
roles:
  aggregated: {template: whole, gpuTypes: [H20, L20], min: 2, max: 16, target: 1000}
slo: {ttft: 1s, tbt: 50ms}
"""


SPLIT = """
roles:
  attention: {template: attention, gpuTypes: [L20, H20], min: 2, max: 8, target: 5000}
  ffn: {template: ffn, gpuTypes: [H20, L20], min: 1, max: 4}
  decode: {template: decode, gpuTypes: [H20, L20], min: 4, max: 16, target: 1000}
ratio: "1:2"
innerRatio: "2:1"
slo: {ttft: 1s, tbt: 50ms}
"""


class Teller:
    """Plays a script in a world and writes down what changed."""

    def __init__(self) -> None:
        self.world = World()
        self.lines: list[str] = []
        self._said: dict[str, str] = {}
        self._seen = 0
        self._schedule: dict[str, object] = {}
        self._service = "chat"
        self.world.on_turn = lambda _: self._listen()

    def play(self, script: str) -> str:
        for line in script.splitlines():
            words = line.split("#")[0].split()
            if words:
                getattr(self, f"do_{words[0]}")(*words[1:])
        return "\n".join(self.lines) + "\n"

    # ---- the script's verbs ----------------------------------------------------------------------

    def do_agents(self, number: str, per_agent: str = "4") -> None:
        for index in range(int(number)):
            half = "a" if index < int(number) / 2 else "b"
            kind = "H20" if index % 2 else "L20"
            gpus = [kind] * int(per_agent)
            self.world.join(f"n{index}", {"s1": f"pod-{half}", "s2": "big"}, gpus)
        self.world.turn()

    def do_engines_switch(self) -> None:
        self.world.switches = True

    def do_slow_to_switch(self) -> None:
        for agent in self.world.agents.values():
            agent.slow_to_switch = True

    def do_refuse_switch(self) -> None:
        order = [c for c in self.world.commands if c.verb is Verb.SWITCH_ROLE][-1]
        self.world.end_switch(order, "the engine is broken")
        self._say("the engine refuses to switch")

    def do_apply_whole(self, *edits: str) -> None:
        """Apply a service of one role."""
        self._apply(WHOLE, edits)

    def do_apply_split(self, *edits: str) -> None:
        """Apply a service whose prefill is split into attention and ffn."""
        self._apply(SPLIT, edits)

    def do_apply(self, *edits: str) -> None:
        self._apply(SERVICE, edits)

    def _apply(self, document: str, edits: Iterable[str]) -> None:
        plain = read_documents(document)[0].data
        for edit in edits:
            path, value = edit.split("=", 1)
            *above, last = path.split(".")
            place = plain
            for key in above:
                place = place.setdefault(key, {})
            place[last] = yaml.safe_load(value)
        if self._schedule:
            plain.setdefault("policy", {})["schedule"] = self._schedule
        spec = ServiceSpec.model_validate(plain)
        self.world.send(ApplyService("r", self._service, spec, document))

    def do_of(self, service: str, verb: str, *rest: str) -> None:
        """Apply, scale, drain or kill an instance of a service of another name."""
        self._service = service
        getattr(self, f"do_{verb}")(*rest)
        self._service = "chat"

    def do_resume(self) -> None:
        self.world.send(ResumeService("r", self._service))
        self._say(f"an operator resumes {self._service}")

    def do_drain(self, role: str) -> None:
        victim = self._first(role)
        self.world.send(DrainInstance("r", victim.instance_id))
        self._say(f"an operator drains one {role} on {victim.agent_id}")

    def do_cordon(self, name: str, *rest: str) -> None:
        """Of a node, or of GPUs of it: ``cordon n0 1,3 a reason``."""
        gpus = (
            tuple(int(one) for one in rest[0].split(",")) if rest and rest[0][0].isdigit() else ()
        )
        why = " ".join(rest[1:] if gpus else rest)
        self.world.send(CordonNode("r", name, gpus, why))
        what = f"GPU {', '.join(map(str, gpus))} of {name}" if gpus else name
        self._say(f"an operator cordons {what}: {why}")

    def do_uncordon(self, name: str) -> None:
        self.world.send(UncordonNode("r", name))
        self._say(f"an operator uncordons {name}")

    def do_uncordon_gpu(self, name: str, gpu: str) -> None:
        self.world.send(UncordonNode("r", name, (int(gpu),)))
        self._say(f"an operator uncordons GPU {gpu} of {name}")

    def do_sicken(self, role: str, name: str = "") -> None:
        """The GPU of one of a role, on a node if it is named, has an ECC error."""
        victim = self._first(role, name)
        index = victim.ranks[0].gpu_indices[0]
        self.world.agents[victim.agent_id].sick[index] = GpuSample(ecc_uncorrected=1)
        self._say(f"GPU {index} of {victim.agent_id}, under one {role}, has an ECC error")

    def do_taint(self, name: str, text: str) -> None:
        """An agent tells of a taint of its node."""
        agent = self.world.agents[name]
        agent.inventory = replace(agent.inventory, hash=text, taints=(parse_taint(text),))
        self.world.send(InventoryLearned(name, agent.inventory))
        self._say(f"{name} carries the taint {text}")

    def do_repair(self) -> None:
        """Say what the newest decision says of repair."""
        self._say(f"= repair: {self.world.decisions[-1].inputs.get('repair', 'nothing is wrong')}")

    def do_start_by_hand(self, role: str, name: str) -> None:
        self.world.start_by_hand(Role(role), name)
        self._say(f"somebody starts one {role} on {name}")

    def do_refuse(self, name: str, *why: str) -> None:
        self.world.agents[name].refuses = " ".join(why)
        self._say(f"{name} refuses: {' '.join(why)}" if why else f"{name} is mended")

    def do_homes(self) -> None:
        found = [
            f"{i.role} on {i.agent_id}"
            for i in self.world.state.instances.values()
            if i.state is InstanceState.IN_SERVICE
        ]
        self._say(f"= {', '.join(sorted(found))}")

    def _first(self, role: str, name: str = "") -> Instance:
        return next(
            i
            for i in self.world.state.of_service(self._service)
            if i.role == role and i.state is InstanceState.IN_SERVICE and name in ("", i.agent_id)
        )

    def do_schedule(self, zone: str, *windows: str) -> None:
        """Of the next `apply`; a window is NAME@HH:MM-HH:MM@floor@PREFILL,DECODE[@PRIORITY].

        One number in place of two is of a service of one role.
        """
        self._schedule = {"timeZone": zone, "windows": [_window(text) for text in windows]}

    def do_life(self, seconds: str) -> None:
        """Of what is launched from now on."""
        self.world.life = float(seconds)
        self._say(f"whatever is launched now is ended after {float(seconds):.0f} s")

    def do_traffic(self, *settings: str) -> None:
        for setting in settings:
            name, value = setting.split("=")
            setattr(self.world.traffic, name, float(value))
        self._say(f"traffic {' '.join(settings)}")

    def do_silent(self, *names: str) -> None:
        for name in names:
            self.world.agents[name].silent = True
        self._say(f"silent: {' '.join(names)}")

    def do_return(self, *names: str) -> None:
        for name in names:
            self.world.agents[name].silent = False
            self.world.hello(self.world.agents[name])
        self._say(f"heard again: {' '.join(names)}")

    def do_blind(self, *names: str) -> None:
        for name in names:
            self.world.agents[name].blind = True
        self._say(f"blind to their engines: {' '.join(names)}")

    def do_kill(self, role: str, state: str = "in_service") -> None:
        victim = self.world.instances(Role(role), InstanceState(state))[0]
        self.world.kill(victim)
        self._say(f"killed one {role}" + f" that was {state}" * (state != "in_service"))

    def do_startups(self, *settings: str) -> None:
        for setting in settings:
            role, seconds = setting.split("=")
            self.world.startups[Role(role)] = float(seconds)
        self._say(f"start-up times: {' '.join(settings)}")

    def do_stick(self, role: str) -> None:
        victim = self.world.instances(Role(role), InstanceState.IN_SERVICE)[0]
        self.world.stick(victim)
        self._say(f"one {role} is stuck: {victim}")

    def do_outliers(self) -> None:
        newest = self.world.decisions[-1].inputs.get("outliers", "nobody stands apart")
        self._say(f"outliers: {newest}")

    def do_scale(self, prefill: str, decode: str) -> None:
        counts = {Role.PREFILL: int(prefill), Role.DECODE: int(decode)}
        self.world.send(ScaleService("r", self._service, counts))

    def do_scale_split(self, attention: str, decode: str) -> None:
        counts = {Role.ATTENTION: int(attention), Role.DECODE: int(decode)}
        self.world.send(ScaleService("r", self._service, counts))

    def do_run(self, seconds: str) -> None:
        self.world.run(float(seconds))
        self._count()

    def do_ramp(self, end: str, seconds: str) -> None:
        """Let arrivals go to ``end`` requests/s in equal steps of 20 s."""
        begin, steps = self.world.traffic.arrivals, round(float(seconds) / 20)
        for step in range(1, steps + 1):
            self.world.traffic.arrivals = begin + (float(end) - begin) * step / steps
            self.world.run(20.0)
        self._count()

    def do_foreseen(self) -> None:
        """Say what the newest decision foresees."""
        self._say(f"= forecast: {self.world.decisions[-1].inputs['forecast']}")

    # ---- the story -------------------------------------------------------------------------------

    def _listen(self) -> None:
        world = self.world
        for decision in world.decisions[self._seen :]:
            self._tell(decision)
        self._seen = len(world.decisions)
        self._once("partition", world.state.partition)

    def _tell(self, decision: Decision) -> None:
        whose = "" if decision.service == "chat" else f"{decision.service}: "
        if decision.action is Action.HOLD:
            # Equal holds are told once; the figures in their sentences move all the time.
            self._once(f"hold{whose}", f"{whose}hold, bound by {decision.bound_by}")
            return
        self._said.pop(f"hold{whose}", None)
        delta = " ".join(f"{n:+d}{role[0].upper()}" for role, n in decision.delta.items())
        self._say(f"{whose}{decision.action} {delta} [{decision.bound_by}] {decision.reason}")

    def _once(self, topic: str, text: str) -> None:
        if self._said.get(topic, "") != text:
            self._said[topic] = text
            if text:
                self._say(text)

    def _say(self, text: str) -> None:
        self.lines.append(f"{self.world.now - self.world.start:5.0f}s  {text}")

    def _count(self) -> None:
        parts = []
        roles: tuple[Role, ...] = (Role.PREFILL, Role.DECODE)
        if self.world.instances(Role.AGGREGATED):
            roles = (Role.AGGREGATED,)
        if self.world.instances(Role.ATTENTION):
            roles = (Role.ATTENTION, Role.FFN, Role.DECODE)
        for role in roles:
            states = [i.state.value for i in self.world.state.instances.values() if i.role is role]
            tally = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))
            parts.append(f"{role}: {tally}")
        self._say(f"= {'; '.join(parts)}")


def _window(text: str) -> dict[str, object]:
    name, hours, kind, counts, *priority = text.split("@")
    start, end = (f"{int(t[3:])} {int(t[:2])} * * *" for t in hours.split("-"))
    numbers = [int(one) for one in counts.split(",")]
    roles = ("prefill", "decode") if len(numbers) > 1 else ("aggregated",)
    said = dict(zip(roles, numbers, strict=True))
    window: dict[str, object] = {"name": name, "start": start, "end": end, kind: said}
    return {**window, "priority": int(priority[0])} if priority else window


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_story_is_the_recorded_one(path: Path, pytestconfig: pytest.Config) -> None:
    script, _, recorded = path.read_text(encoding="utf-8").partition("----\n")
    story = Teller().play(script)
    if pytestconfig.getoption("--record"):
        path.write_text(f"{script}----\n{story}", encoding="utf-8")
    else:
        assert story == recorded
