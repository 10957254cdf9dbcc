"""The best placement there is, by OR-tools' CP-SAT: a problem a line in, a line out for each.

Runs in an environment of its own (``make .venv-solver``) and imports nothing of ours: OR-tools wants
another protobuf. Three goals, each solved with those before it held: most steps placed, fewest GPUs of
the high class, fewest pairs over domains. Of an ``ordered`` problem the first goal is that no step is
left out for any number of later ones. With ``wishes`` each step in its turn is placed, kept together in
its wished domain and put on its first GPU types, before the next is looked at. ``proven`` says for each
goal whether the time allowed was enough.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ortools.sat.python import cp_model

Problem = Mapping[str, Any]
LEAST = 0.1
"""Seconds that each goal has at the least."""


class Model:
    """The problem in CP-SAT's words."""

    def __init__(self, problem: Problem) -> None:
        self.model = cp_model.CpModel()
        self.nodes = problem["nodes"]
        self._loads: list[list[Any]] = [[] for _ in self.nodes]
        self.placed: list[Any] = []
        self.high: list[Any] = []
        self.kept: list[Any] = []
        self.pairs: list[Any] = []
        self.worth: list[Any] = []
        """What each step's place is worth to it: that it has one, in its domain, on its first types."""
        self._off_type: list[Any] = []
        for number, step in enumerate(problem["steps"]):
            self._step(number, step)
        for node, loads in zip(self.nodes, self._loads, strict=True):
            self.model.add(sum(loads) <= node["free"])

    def _step(self, number: int, step: Problem) -> None:
        """Add a step: it is placed whole, unit by unit inside its walls, or not at all."""
        placed = self.model.new_bool_var(f"placed{number}")
        self.placed.append(placed)
        domains = self._domains(step["wall"])
        counts = self._counts(number, step, domains, placed)
        self._off_type.clear()
        kept, pairs = len(self.kept), len(self.pairs)
        at: dict[str, list[Any]] = {}
        for role, asked in step["roles"].items():
            at[role] = [0] * len(self.nodes)
            for domain, members in domains.items():
                name = f"{number}.{role}.{domain}"
                for node, there in self._role(name, asked, members, counts[role, domain]).items():
                    at[role][node] = there
        if len(at) > 1:
            self._pairs(number, step, at, placed)
        together = self.model.new_bool_var(f"together{number}")
        self.model.add(together <= placed)
        all_kept = sum(self.kept[kept:]) >= sum(self.pairs[pairs:])
        if len(at) > 1:
            self.model.add(all_kept).only_enforce_if(together)
        roles = step["roles"].values()
        most = 1 + sum(role["count"] * len(role["types"]) for role in roles)
        self.worth.append(2 * most * placed + most * together - sum(self._off_type))

    def _counts(
        self, number: int, step: Problem, domains: Mapping[str, list[int]], placed: Any
    ) -> dict[tuple[str, str], Any]:
        """Return how many instances of each role go to each domain: whole units."""
        kinds: dict[tuple[tuple[str, int], ...], int] = {}
        for unit in step["units"]:
            key = tuple(sorted(unit.items()))
            kinds[key] = kinds.get(key, 0) + 1
        counts: dict[tuple[str, str], Any] = {
            (role, domain): 0 for role in step["roles"] for domain in domains
        }
        for order, (unit, times) in enumerate(kinds.items()):
            there = []
            for domain in domains:
                here = self.model.new_int_var(0, times, f"unit{number}.{order}.{domain}")
                there.append(here)
                for role, count in unit:
                    counts[role, domain] += count * here
            self.model.add(sum(there) == times * placed)
        return counts

    def _role(
        self, name: str, asked: Problem, members: Iterable[int], count: Any
    ) -> dict[int, Any]:
        """Seat ``count`` instances on nodes; returns the instances whose rank 0 is on each node.

        Ranks of an instance stand on nodes of their own, all of one type: they can be dealt out so if
        and only if no node has more ranks of a type than there are instances on it.
        """
        by_type: dict[str, list[int]] = {}
        for node in members:
            kind = self.nodes[node]["type"]
            if not asked["types"] or kind in asked["types"]:
                by_type.setdefault(kind, []).append(node)
        heads: dict[int, Any] = {}
        instances = []
        for kind, nodes in by_type.items():
            here = self.model.new_int_var(0, asked["count"], f"{name}.{kind}")
            instances.append(here)
            ranks = {}
            for node in nodes:
                most = min(self.nodes[node]["free"] // asked["gpus"], asked["count"])
                seats = self.model.new_int_var(0, most, f"{name}.{kind}.{node}")
                ranks[node] = seats
                self._loads[node].append(asked["gpus"] * seats)
                if self.nodes[node]["high"]:
                    self.high.append(asked["gpus"] * seats)
                heads[node] = seats
                if asked["ranks"] > 1:
                    self.model.add(seats <= here)
                    heads[node] = self.model.new_int_var(0, most, f"{name}.{kind}.{node}.head")
                    self.model.add(heads[node] <= seats)
            self.model.add(sum(ranks.values()) == asked["ranks"] * here)
            self.model.add(sum(heads[node] for node in nodes) == here)
            if asked["types"]:
                self._off_type.append(asked["types"].index(kind) * here)
        self.model.add(sum(instances) == count)
        return heads

    def _pairs(self, number: int, step: Problem, at: Mapping[str, list[Any]], placed: Any) -> None:
        """Count the pairs of a step that can stay inside a domain of its level, traffic balanced."""
        (one, first), (other, second) = at.items()
        ones, others = step["roles"][one]["count"], step["roles"][other]["count"]
        for domain, members in self._domains(step["level"]).items():
            kept = self.model.new_int_var(0, ones * others, f"kept{number}.{domain}")
            self.model.add(kept <= others * sum(first[node] for node in members))
            self.model.add(kept <= ones * sum(second[node] for node in members))
            self.kept.append(kept)
        self.pairs.append(ones * others * placed)

    def _domains(self, level: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, node in enumerate(self.nodes):
            found.setdefault(node[level], []).append(number)
        return found


def solve(problem: Problem, seconds: float) -> dict[str, Any]:
    """Return the best values of the three goals, and which of them are proven."""
    whole = Model(problem)
    model = whole.model
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    found: dict[str, Any] = {"name": problem.get("name", ""), "proven": []}
    goals: list[tuple[str, Any, bool]] = [("placed", _worth(problem, whole.placed), True)]
    if problem["wishes"]:
        goals = [("placed", one, True) for one in whole.worth]
    first = len(goals)
    goals += [
        ("high", sum(whole.high), False),
        ("cross", sum(whole.pairs) - sum(whole.kept), False),
    ]
    left = seconds
    for number, (name, expression, most) in enumerate(goals):
        # However many goals the first is made of, they have the time of one together.
        solver.parameters.max_time_in_seconds = left if number < first else seconds
        (model.maximize if most else model.minimize)(expression)
        status = solver.solve(model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            found["proven"] = [False] * len(goals)
            break
        left = max(LEAST, left - solver.wall_time)
        value = round(solver.objective_value)
        found[name] = value
        found["proven"].append(status == cp_model.OPTIMAL)
        if name == "placed":
            found["steps"] = [i for i, one in enumerate(whole.placed) if solver.value(one)]
            found["placed"] = len(found["steps"])
        model.clear_hints()
        for index in range(len(model.proto.variables)):
            variable = model.get_int_var_from_proto_index(index)
            model.add_hint(variable, solver.value(variable))
        model.clear_objective()
        model.add(expression >= value if most else expression <= value)
    proven = found["proven"]
    found["proven"] = [all(proven[:first]), *proven[first:]]
    return found


def _worth(problem: Problem, placed: list[Any]) -> Any:
    """Return what the steps are worth together: one each, or each more than all after it."""
    if not problem["ordered"]:
        return sum(placed)
    return sum(2 ** (len(placed) - 1 - order) * one for order, one in enumerate(placed))


def main() -> None:
    """Answer problem after problem; the first argument is the seconds allowed for each goal."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    for line in sys.stdin:
        sys.stdout.write(json.dumps(solve(json.loads(line), seconds)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
