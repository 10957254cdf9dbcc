"""Sample values of the core, one builder for each, for the tests of the coordinator's edge."""

from __future__ import annotations

from heteroscale.documents import read_documents
from heteroscale.words import GateState, InstanceState, Role, WithdrawReason
from heteroscale_coordinator.core.devices import GpuFact, NicFact
from heteroscale_coordinator.core.memory import Breach, PolicyMemory, SoftScaleIn
from heteroscale_coordinator.core.memory.stability import Breaker, StabilityMemory, Unplaced
from heteroscale_coordinator.core.model import (
    Action,
    Command,
    CommandState,
    Decision,
    Instance,
    Inventory,
    Rank,
    Service,
    SignalValue,
    TemplateFact,
    Verb,
)
from heteroscale_coordinator.core.spec import ServiceDocument, ServiceSpec

NOW = 1_750_000_000.0
CHAT = """\
apiVersion: heteroscale/v1
kind: Service
metadata:
  name: chat
spec:
  roles:
    prefill: {template: chat-prefill, gpuTypes: [H20, L20], gpus: 2, min: 1, max: 8}
    decode: {template: chat-decode, gpus: 1, min: 2, max: 16, target: {H20: 2000, L20: 900}}
  ratio: "1:2"
  slo: {ttft: 1s, tbt: 50ms}
  policy: {cooldownOut: 3m, observation: 2m}
  gate: {kind: sglang-router, routers: ["http://10.0.0.1:30000"]}
"""


def spec(text: str = CHAT) -> ServiceSpec:
    return read_documents(text, "chat.yaml")[0].parse(ServiceDocument).spec


def service(name: str = "chat", *, paused: str = "", rich: bool = False) -> Service:
    memory = PolicyMemory(wanted={Role.PREFILL: 2, Role.DECODE: 4}, last_out_at=NOW - 60)
    if rich:
        memory = PolicyMemory(
            wanted={Role.PREFILL: 2, Role.DECODE: 4},
            last_in_at=NOW - 900.25,
            cooldown_in_factor=2.0,
            soft=SoftScaleIn("d-7", NOW, NOW + 300, 1234.5, 1300.0),
            breach=Breach(NOW - 3, {Role.DECODE: 4}),
            startup_times=(61.5, 58.25),
            launch_failures=2,
            avoid={"agent-9": NOW + 100},
            stability=StabilityMemory(
                direction="in",
                changed_at=NOW - 900.25,
                reversals=(NOW - 900, NOW - 700, NOW - 500, NOW - 300),
                reversal_count=9,
                nodes={"agent-9": Breaker(4, NOW - 30, 2, NOW + 90)},
                types={"H20": Breaker(3, NOW - 80, 1, NOW - 20, ("agent-1", "agent-9"))},
                given=((NOW - 4000, 8), (NOW - 40, 3)),
                unplaced=Unplaced({Role.DECODE: 2}, NOW - 40, "No place for +2 decode."),
            ),
        )
    return Service(name, spec(), CHAT, paused, memory)


def instance(
    key: str = "i-1",
    role: Role = Role.DECODE,
    state: InstanceState = InstanceState.IN_SERVICE,
    *,
    of: str = "chat",
    agent: str = "agent-1",
    reason: WithdrawReason | None = None,
) -> Instance:
    return Instance(
        instance_id=key,
        service=of,
        role=role,
        ranks=(Rank(agent, (0, 1), state, 5),),
        state=state,
        generation=5,
        created_at=NOW - 500,
        changed_at=NOW - 100,
        template="chat-decode",
        group="chat-0",
        gpu_type="H20",
        reason=reason,
        gate_state=GateState.OPEN,
        endpoint="http://10.0.0.7:20000",
        startup_time=61.5,
    )


def order(key: str = "c-1", state: CommandState = CommandState.OPEN) -> Command:
    return Command(
        key,
        Verb.WITHDRAW,
        "agent-1",
        "i-1",
        "chat",
        "d-7",
        5,
        NOW,
        NOW + 60,
        state,
        reason=WithdrawReason.SOFT_SCALE_IN,
        lease=30.0,
    )


def inventory(digest: str = "abc") -> Inventory:
    return Inventory(
        digest,
        (GpuFact(0, "H20", 96 << 30, "GPU-0"), GpuFact(1, "H20", 96 << 30, "GPU-1")),
        (NicFact("mlx5_0", rate_gbps=400.0, rail=0), NicFact("mlx5_1", rate_gbps=400.0, rail=1)),
        {"s1": "minipod-0", "s2": "bigpod-0"},
        (TemplateFact("chat-decode", Role.DECODE, 1, "vllm", engine_version="0.33"),),
        {"rack": "r1"},
    )


def decision(
    key: str = "d-1",
    action: Action = Action.HOLD,
    at: float = NOW,
    *,
    demand: float = 7000.0,
    of: str = "chat",
    bound_by: str = "demand",
) -> Decision:
    return Decision(
        key,
        of,
        at,
        action,
        f"demand {demand:.0f} tok/s is {demand / 80:.0f} % of supply 8000 tok/s",
        bound_by,
        {Role.PREFILL: 1, Role.DECODE: 2} if action is Action.SCALE_OUT else {},
        {"R": f"{demand:.0f} ÷ 8000 = {demand / 8000:.3f}"},
        ("i-1",) if action is not Action.HOLD else (),
        signals=(
            SignalValue("decode_demand", demand, "tokens/s", "ok"),
            SignalValue("decode_supply", 8000.0, "tokens/s", "ok"),
            SignalValue("decode_tbt", None, "s", "missing", 0.0),
        ),
        last_at=at,
    )
