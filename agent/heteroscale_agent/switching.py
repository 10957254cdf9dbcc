"""Changes the role of instances that are quiet, and asks engines for theirs where nobody knows it.

The engine is asked without holding the instance: a terminate never waits for it. That it is about to
be asked is in the journal; so after a crash of the agent, or an answer that never came, the engine's
own word decides. Asking again is safe: an engine that has the role already says so.

    quiet ─▶ asked ─▶ it has the role ─────────────────────▶ IN_SERVICE in the new role   DONE
               │ ──▶ refused, and fit as it was ───────────▶ IN_SERVICE in the old role   FAILED
               │ ──▶ broken, or of no known role for long ─▶ stopped, counts as FAILED    FAILED
               └ ──▶ no answer, busy: asked again
"""

from __future__ import annotations

from dataclasses import replace

from heteroscale.words import InstanceState, Outcome, Role
from heteroscale_agent.hands.port import RoleAnswer, Roles
from heteroscale_agent.instances import Instance, Switch, SwitchFacts, moved
from heteroscale_agent.life import Life, is_ours
from heteroscale_agent.model import CommandResult
from heteroscale_agent.registry import Registry

RETRY = 1.0
"""Seconds between two questions to one engine."""
LEARN_TRIES = 30
"""Questions after which an engine that says no role is believed to have the one of its launch."""
INFO_TIMEOUT = 5.0
"""Seconds that an engine may take to say its role."""


class Switcher:
    """Asks engines about roles, one question at a time for each."""

    def __init__(self, registry: Registry, life: Life, roles: Roles) -> None:
        self._registry = registry
        self._life = life
        self._roles = roles

    def due(self, instance: Instance, now: float) -> bool:
        """Return whether an engine should be asked now."""
        record = instance.record
        if not is_ours(record) or record.facts.role_switch is None or now < instance.switch_due_at:
            return False
        if record.switch is not None:
            return record.switch.asked and not record.terminating
        lost = record.recovered and record.state is InstanceState.LAUNCHING
        return lost and not instance.role_known and instance.ready_at is not None

    async def check(self, instance: Instance) -> None:
        """Ask, and change the record by what is answered."""
        record, facts = instance.record, instance.record.facts.role_switch
        if facts is None:
            return
        if record.switch is None:
            await self._learn(instance, facts)
        else:
            await self._switch(instance, record.switch, facts)
        instance.switch_due_at = self._registry.clock() + RETRY

    async def _learn(self, instance: Instance, facts: SwitchFacts) -> None:
        """Correct the role of an engine whose journal was lost: it may have switched since."""
        role = await self._ask_role(instance, facts)
        async with instance.lock:
            record = instance.record
            instance.role_tries += 1
            if record.ended or record.terminating:
                return
            # One that never says is taken for what it was launched as, rather than left out for ever.
            instance.role_known = role is not None or instance.role_tries >= LEARN_TRIES
            if role is not None and role is not record.launch.role:
                launch = replace(record.launch, role=role)
                why = f"it says that it is {role} by now"
                after = replace(
                    record, launch=launch, generation=record.generation + 1, message=why
                )
                await self._registry.observe(instance, after)

    async def _switch(self, instance: Instance, switch: Switch, facts: SwitchFacts) -> None:
        more = facts.more.get(switch.role, {})
        url = instance.record.endpoint + facts.path
        answer = await self._roles.switch(url, switch.role, more, facts.timeout)
        has = await self._ask_role(instance, facts)
        async with instance.lock:
            record = instance.record
            if record.switch != switch or record.terminating or record.ended:
                return  # a command, or its end, was faster
            if has is switch.role or (answer.done and has is None):
                await self._done(instance, switch)
            elif not answer.done:
                await self._failed(instance, switch, answer, has)
            else:
                await self._wait(instance, switch, answer, f"it says it is still {has}", has)

    async def _failed(
        self, instance: Instance, switch: Switch, answer: RoleAnswer, has: Role | None
    ) -> None:
        if answer.later:
            await self._wait(instance, switch, answer, answer.message, has)
        elif answer.intact:
            await self._life.back(instance, f"{self._still(instance)}: {answer.message}")
        else:
            why = f"it broke when it was to become {switch.role}: {answer.message}"
            await self._life.doom(instance, why)

    async def _wait(
        self, instance: Instance, switch: Switch, answer: RoleAnswer, why: str, has: Role | None
    ) -> None:
        """Ask again later; or, when that has gone on for too long, go by what it says it is."""
        record = instance.record
        if self._registry.clock() < switch.until_at:
            said = f"asked to become {switch.role}: {why}"
            if said != record.message:
                await self._registry.observe(instance, replace(record, message=said))
        elif has is record.launch.role and answer.intact is not False:
            await self._life.back(instance, f"{self._still(instance)}: {why}")
        else:
            await self._life.doom(instance, f"of no known role since it was asked: {why}")

    async def _done(self, instance: Instance, switch: Switch) -> None:
        record = instance.record
        why = f"switched from {record.launch.role} to {switch.role}"
        result = CommandResult(switch.command_id, Outcome.DONE, why)
        after = moved(
            record,
            InstanceState.IN_SERVICE,
            self._registry.clock(),
            why,
            launch=replace(record.launch, role=switch.role),
            cause=switch.command_id,
        )
        await self._registry.observe(instance, after, self._registry.result_entry(result))
        status = instance.status(self._registry.clock())
        self._registry.say(replace(result, status=status))

    async def _ask_role(self, instance: Instance, facts: SwitchFacts) -> Role | None:
        return await self._roles.role(instance.record.endpoint + facts.info_path, INFO_TIMEOUT)

    @staticmethod
    def _still(instance: Instance) -> str:
        return f"still {instance.record.launch.role}, and back in service"
