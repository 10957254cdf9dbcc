"""What a full host says: 8 GPUs, 8 NICs, 4 engines, values moving; made by the agent's own ``wire``.

A load process cannot build two thousand reports a second from Python values and still be a quiet
sender, so each *shape* of host is written once for a stretch of time, and a stream puts its own ids
and sequence into the bytes. All ids have the length of real ones, so nothing else in them changes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from heteroscale.v1 import agent_pb2
from heteroscale.words import (
    GateState,
    InstanceState,
    NicDistance,
    Outcome,
    Role,
    ScrapeQuality,
)
from heteroscale_agent import wire
from heteroscale_agent.identity import Identity
from heteroscale_agent.model import (
    CommandResult,
    EngineReport,
    Gpu,
    GpuReading,
    HostReading,
    InstanceStatus,
    Inventory,
    LatencyCounters,
    Nic,
    NicCounters,
    Report,
    TemplateInfo,
)

GPUS, NICS, ENGINES = 8, 8, 4
HISTORY_S = 120.0
SERVICE = "bench"

_MIB = 1024 * 1024
_HOST_ID = "bench-00000000"
_TOKEN = "deadbeefdeadbeef"  # noqa: S105 - tells processes apart, no secret
_ENGINE_IDS = tuple(f"i-{place:012x}" for place in range(1, ENGINES + 1))
_EPOCH_OF_CLOCK = 1_000_000.0


def host_id(number: int) -> str:
    """Return the agent id, and host name, of host ``number``."""
    return f"bench-{number:08d}"


def engine_ids(number: int) -> tuple[str, ...]:
    """Return the instance ids of host ``number``."""
    return tuple(f"i-{number:010x}{place:02x}" for place in range(ENGINES))


@dataclass(frozen=True, slots=True)
class Shape:
    """One host's words over time, cut where ids of its own belong."""

    hello: bytes
    inventory: bytes
    reports: tuple[tuple[bytes, ...], ...]
    """Of each moment: the bytes before, between and after the engines' ids."""

    def greeting(self, number: int) -> bytes:
        """Return the hello of host ``number`` as a whole message with sequence 1."""
        body = self.hello.replace(_HOST_ID.encode(), host_id(number).encode())
        body = body.replace(_TOKEN.encode(), f"{number:016x}".encode())
        for mine, placed in zip(engine_ids(number), _ENGINE_IDS, strict=True):
            body = body.replace(placed.encode(), mine.encode())
        return _numbered(1, body)

    def slow_facts(self, sequence: int) -> bytes:
        """Return the inventory as a whole message."""
        return _numbered(sequence, self.inventory)


class Voice:
    """What one stream sends, ready to be written."""

    def __init__(self, shape: Shape, number: int) -> None:
        self._shape = shape
        self._number = number
        self._ids = tuple(one.encode() for one in engine_ids(number))
        self._moment = number % 7

    def hello(self) -> bytes:
        """Return the first message; its sequence is 1."""
        return self._shape.greeting(self._number)

    def inventory(self, sequence: int) -> bytes:
        """Return the inventory."""
        return self._shape.slow_facts(sequence)

    def report(self, sequence: int) -> bytes:
        """Return the next report; after the last moment of its shape the first comes again."""
        reports = self._shape.reports
        before, *rest = reports[self._moment % len(reports)]
        self._moment += 1
        parts = [_sequence(sequence), before]
        for own, after in zip(self._ids, rest, strict=True):
            parts += (own, after)
        return b"".join(parts)

    def probe(self, sequence: int) -> bytes:
        """Return a result of a command nobody gave: it changes nothing, and its ack is not batched."""
        result = CommandResult(f"cmd-{self._number:012x}", Outcome.DONE)
        return agent_pb2.ConnectRequest(
            sequence=sequence, command_result=wire.result(result)
        ).SerializeToString()


def make_shapes(count: int, moments: int, interval: float, seed: int = 7) -> list[Shape]:
    """Return ``count`` different hosts, each with ``moments`` reports ``interval`` seconds apart."""
    return [_shape(random.Random(seed + number), moments, interval) for number in range(count)]  # noqa: S311 - made-up load


def _shape(dice: random.Random, moments: int, interval: float) -> Shape:
    host = _Host(dice)
    past = [host.report(interval) for _ in range(int(HISTORY_S / wire.HISTORY_SPACING))]
    now = host.clock
    hello = wire.hello(
        Identity(_HOST_ID, 1, _TOKEN, "0d7c5a0e-6f0c-4e52-9a0c-6a5bb8d3c001", _HOST_ID),
        inventory=host.inventory,
        instances=host.instances,
        history=past,
        results=(),
        now=now,
        version="0.1.0",
        cluster_id="",
        highest_epoch=0,
        advertise_host="10.0.0.1",
    )
    messages = (wire.report(host.report(interval), host.clock + 0.02) for _ in range(moments))
    return Shape(
        hello=agent_pb2.ConnectRequest(hello=hello).SerializeToString(),
        inventory=agent_pb2.ConnectRequest(
            inventory=wire.inventory_message(host.inventory)
        ).SerializeToString(),
        reports=tuple(
            _cut(agent_pb2.ConnectRequest(report=message).SerializeToString())
            for message in messages
        ),
    )


def _cut(raw: bytes) -> tuple[bytes, ...]:
    parts = []
    for placed in _ENGINE_IDS:
        before, _, raw = raw.partition(placed.encode())
        parts.append(before)
    return (*parts, raw)


def _sequence(number: int) -> bytes:
    return agent_pb2.ConnectRequest(sequence=number).SerializeToString()


def _numbered(sequence: int, body: bytes) -> bytes:
    # Of a message in two pieces, its fields may simply stand one after the other.
    return _sequence(sequence) + body


class _Host:
    """A host under load, one reading after the other."""

    def __init__(self, dice: random.Random) -> None:
        self.clock = _EPOCH_OF_CLOCK
        self._dice = dice
        self._octets = [dice.randrange(10**13) for _ in range(NICS)]
        self._engines = [_Engine(dice, prefill=place % 2 == 0) for place in range(ENGINES)]
        self.inventory = _inventory()
        self.instances = [
            InstanceStatus(
                instance_id=instance_id,
                service=SERVICE,
                role=Role.PREFILL if place % 2 == 0 else Role.DECODE,
                state=InstanceState.IN_SERVICE,
                generation=4,
                gate_state=GateState.OPEN,
                endpoint=f"http://10.0.0.1:{30_000 + place}",
                group="s1=minipod-7",
                template="decode-h20",
                gpu_indices=(2 * place, 2 * place + 1),
                pid=40_000 + place,
                state_age=3_600.0,
                startup_time=94.2,
            )
            for place, instance_id in enumerate(_ENGINE_IDS)
        ]

    def report(self, interval: float) -> Report:
        """Return the next reading, ``interval`` seconds after the last."""
        self.clock += interval
        dice = self._dice
        for place in range(NICS):
            self._octets[place] += dice.randrange(int(interval * 10**10) + 1)
        return Report(
            sampled_at=self.clock,
            interval=interval,
            gpus=tuple(_gpu(dice) for _ in range(GPUS)),
            nics=tuple(
                NicCounters(
                    active=True,
                    received_octets=octets,
                    sent_octets=octets - dice.randrange(10**9),
                    errors=dice.randrange(300),
                    congestion_marks=octets // 10**7,
                    retransmissions=octets // 10**9,
                    link_flaps=2,
                    share=dice.uniform(0, 1),
                    rate_bps=400 * 10**9,
                    xmit_wait=octets // 10**5,
                )
                for octets in self._octets
            ),
            host=HostReading(
                dice.uniform(5, 60), dice.randrange(10**11, 10**12), dice.uniform(1, 90)
            ),
            engines=tuple(
                engine.report(instance_id, interval)
                for engine, instance_id in zip(self._engines, _ENGINE_IDS, strict=True)
            ),
        )


def _gpu(dice: random.Random) -> GpuReading:
    return GpuReading(
        utilization_percent=dice.randint(40, 100),
        memory_utilization_percent=dice.randint(20, 90),
        memory_used_bytes=dice.randint(70_000, 95_000) * _MIB,
        power_watts=dice.uniform(180, 500),
        temperature_celsius=dice.randint(35, 78),
        ecc_uncorrected=0,
        process_count=1,
        sm_activity_percent=dice.uniform(20, 95),
        dram_activity_percent=dice.uniform(20, 90),
        tensor_activity_percent=dice.uniform(5, 60),
        sm_clock_mhz=dice.randint(1_200, 1_980),
        memory_clock_mhz=2_619,
        throttle=dice.choice((0, 0, 0, 1)),
        pcie_received_mib_per_s=dice.uniform(0, 20_000),
        pcie_sent_mib_per_s=dice.uniform(0, 20_000),
        nvlink_received_mib_per_s=dice.uniform(0, 200_000),
        nvlink_sent_mib_per_s=dice.uniform(0, 200_000),
        ecc_corrected=3,
        xid_count=0,
        last_xid=0,
        foreign_process_count=0,
    )


class _Engine:
    """The counters of a busy engine."""

    def __init__(self, dice: random.Random, *, prefill: bool) -> None:
        self._dice = dice
        self._tokens = dice.uniform(800, 3_000) if not prefill else 4.0
        self._done = self._generated = self._prompt = float(dice.randrange(10**6))
        self._ttft = self._tbt = 0.0

    def report(self, instance_id: str, interval: float) -> EngineReport:
        """Return what has come together after ``interval`` more seconds."""
        dice = self._dice
        finished = dice.randint(4, 20)
        tokens = round(self._tokens * interval * dice.uniform(0.8, 1.2))
        self._done += finished
        self._generated += tokens
        self._prompt += finished * dice.randint(800, 4_000)
        self._ttft += finished * dice.uniform(0.1, 0.6)
        self._tbt += tokens * dice.uniform(0.02, 0.05)
        return EngineReport(
            instance_id=instance_id,
            quality=ScrapeQuality.OK,
            age=dice.uniform(0.01, 0.4),
            generation_tokens=self._generated,
            prompt_tokens=self._prompt,
            computed_prompt_tokens=round(self._prompt * 0.7),
            requests_finished=self._done,
            requests_aborted=3.0,
            running=float(dice.randint(8, 64)),
            waiting=float(dice.randint(0, 5)),
            transferring=float(dice.randint(0, 3)),
            kv_usage=dice.uniform(0.2, 0.9),
            time_to_first_token=LatencyCounters(
                self._ttft, self._done, tuple(dice.randint(0, 9) for _ in range(20))
            ),
            time_between_tokens=LatencyCounters(
                self._tbt, self._generated, tuple(dice.randint(0, 2_000) for _ in range(16))
            ),
        )


def _distances(gpu: int) -> tuple[NicDistance, ...]:
    """Return how far each port is from a GPU: one beside it, half of the others on its socket."""
    return tuple(
        NicDistance.PIX
        if nic == gpu
        else NicDistance.NODE
        if nic // 4 == gpu // 4
        else NicDistance.SYS
        for nic in range(NICS)
    )


def _inventory() -> Inventory:
    return Inventory(
        gpus=tuple(
            Gpu(
                index=place,
                uuid=f"GPU-5b1f0c5e-8b7c-4f0e-9d53-2f4a6c8e01{place:02x}",
                name="NVIDIA H20",
                type="H20",
                memory_bytes=97_871 * _MIB,
                pci_address=f"00000000:{place + 16:02X}:00.0",
                numa_node=place // 4,
                nic_distances=_distances(place),
            )
            for place in range(GPUS)
        ),
        nics=tuple(
            Nic(
                name=f"mlx5_{place}",
                port=1,
                pci_address=f"0000:{place + 32:02x}:00.0",
                numa_node=place // 4,
                rate_bps=400 * 10**9,
                link_layer="InfiniBand",
                hca_type="MT4129",
                firmware="28.39.1002",
                node_guid=f"9803:9b03:00a1:{place:04x}",
                rail=place,
            )
            for place in range(NICS)
        ),
        cpu_count=192,
        memory_bytes=2048 * 1024**3,
        topology={"s0": "leaf-3", "s1": "minipod-7", "s2": "bigpod-1", "vdc": "east"},
        templates=(
            TemplateInfo("prefill-h20", Role.PREFILL, 2, "sglang"),
            TemplateInfo("decode-h20", Role.DECODE, 2, "sglang"),
        ),
        labels={"pool": "main", "rack": "r42"},
        kernel="6.8.0",
        driver_version="570.86",
    )
