"""Device readings up the wire, and what an operator is shown of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.v1 import agent_pb2
from heteroscale.words import GpuHealth, NicDistance
from heteroscale_coordinator.core.devices import (
    NO_DEVICES,
    GpuFact,
    GpuSample,
    KnownDevices,
    NicFact,
    NicSample,
)
from heteroscale_coordinator.core.model import Inventory
from heteroscale_coordinator.core.state import Agent
from heteroscale_coordinator.edge import devices, node_wire
from tests.coordinator.values import NOW

ANY = st.integers(-(2**31), 2**31 - 1)
WIDE = st.integers(-(2**63), 2**63 - 1)


def packed(
    gpus: agent_pb2.GpuReadings | None = None, nics: agent_pb2.NicReadings | None = None
) -> devices.PackedDevices:
    return devices.PackedDevices(agent_pb2.Report(gpus=gpus, nics=nics))


def test_every_gpu_column_has_its_reading_and_no_other() -> None:
    columns = {field.name for field in agent_pb2.GpuReadings.DESCRIPTOR.fields}
    assert columns == set(GpuSample._fields)
    values: dict[str, list[int]] = {
        name: [place % 15 + 1] for place, name in enumerate(sorted(columns - {"health"}))
    }
    (seen,) = packed(agent_pb2.GpuReadings(**values, health=[agent_pb2.GPU_HEALTH_OK])).gpus()
    assert seen._asdict() == {
        **{name: value for name, (value,) in values.items()},
        "health": GpuHealth.OK,
    }


def test_every_port_column_has_its_reading() -> None:
    columns = {field.name for field in agent_pb2.NicReadings.DESCRIPTOR.fields}
    assert columns == set(NicSample._fields) - {"share"} | {"share_permille"}
    message = agent_pb2.NicReadings(
        received_octets=[1],
        sent_octets=[2],
        errors=[3],
        active=[1],
        congestion_marks=[4],
        retransmissions=[5],
        link_flaps=[6],
        share_permille=[625],
        rate_gbps=[7],
        xmit_wait=[8],
    )
    assert packed(nics=message).nics() == (NicSample(True, 1, 2, 3, 4, 5, 6, 0.625, 7, 8),)


@pytest.mark.parametrize("name", ["ecc_uncorrected", "xid_count", "foreign_process_count"])
def test_readings_that_may_close_a_gpu_are_suspect_at_once(name: str) -> None:
    def suspect(*values: int) -> bool:
        return packed(agent_pb2.GpuReadings(**{name: values})).suspect  # type: ignore[arg-type]

    assert suspect(0, 3)
    assert not suspect(0, -1)
    assert not suspect()


def test_a_port_down_or_a_gpu_that_does_not_answer_is_suspect() -> None:
    assert packed(nics=agent_pb2.NicReadings(active=[1, 0])).suspect
    assert not packed(nics=agent_pb2.NicReadings(active=[1, -1])).suspect
    assert packed(agent_pb2.GpuReadings(health=[agent_pb2.GPU_HEALTH_LOST])).suspect
    assert not NO_DEVICES.suspect


def test_what_is_out_of_range_is_unknown_and_short_columns_are() -> None:
    gpus = agent_pb2.GpuReadings(
        utilization_percent=[0, 100, 101, -7, 2**31 - 1],
        memory_used_mib=[-1, -9, 5],
        throttle=[16, 15],
        health=[agent_pb2.GPU_HEALTH_OK, agent_pb2.GPU_HEALTH_LOST, 99, 0],  # type: ignore[list-item]
    )
    seen = packed(gpus).gpus()
    assert [one.utilization_percent for one in seen] == [0, 100, None, None, None]
    assert [one.memory_used_mib for one in seen] == [None, None, 5, None, None]
    assert [one.throttle for one in seen] == [None, 15, None, None, None]
    assert [one.health for one in seen] == [GpuHealth.OK, GpuHealth.LOST, None, None, None]
    assert packed(gpus).healthy == (True, False, True, True)
    nics = agent_pb2.NicReadings(active=[1, 0, -1, 7], share_permille=[1001, 500])
    assert [(one.active, one.share) for one in packed(nics=nics).nics()] == [
        (True, None),
        (False, 0.5),
        (None, None),
        (None, None),
    ]
    assert (packed(nics=nics).ports_up, packed(nics=nics).ports_down) == (1, 1)


def test_columns_are_cut() -> None:
    seen = packed(
        agent_pb2.GpuReadings(utilization_percent=[1] * 9_999),
        agent_pb2.NicReadings(active=[1] * 9_999),
    )
    assert len(seen.gpus()) == devices.MAX_GPUS
    assert len(seen.nics()) == seen.ports_up == devices.MAX_NICS


@given(
    st.dictionaries(st.sampled_from(sorted(GpuSample._fields)), st.lists(ANY, max_size=5)),
    st.dictionaries(
        st.sampled_from(["received_octets", "errors", "xmit_wait", "congestion_marks"]),
        st.lists(WIDE, max_size=5),
    ),
)
def test_nothing_raises_and_nothing_is_negative(
    gpus: dict[str, list[int]], nics: dict[str, list[int]]
) -> None:
    seen = packed(agent_pb2.GpuReadings(**gpus), agent_pb2.NicReadings(**nics))  # type: ignore[arg-type]
    values = [value for one in (*seen.gpus(), *seen.nics()) for value in one]
    assert all(not isinstance(value, int | float) or value >= 0 for value in values)
    agent = Agent("a", inventory=Inventory(gpus=(GpuFact(0, "H20"),) * 5), devices=seen)
    node_wire.node_message(agent, (), NOW, with_devices=True)


def test_a_report_without_devices_has_none() -> None:
    assert devices.devices(agent_pb2.Report()) is NO_DEVICES
    assert (NO_DEVICES.gpus(), NO_DEVICES.nics(), NO_DEVICES.healthy) == ((), (), ())


def test_hosts_that_are_built_alike_share_their_facts() -> None:
    first, second = (
        devices.nic_fact(
            name="mlx5_0",
            port=1,
            rate_bps=400 * 10**9,
            rail=0,
            link_layer="InfiniBand",
            netdev="",
            numa_node=-1,
        )
        for _ in range(2)
    )
    assert first is second
    assert (first.rate_gbps, first.numa_node) == (400.0, None)


# ---- what an operator is shown -----------------------------------------------------------------


def an_agent(**changes: object) -> Agent:
    far = (NicDistance.PIX, None)
    values: dict[str, object] = {
        "inventory": Inventory(
            gpus=(GpuFact(3, "H20", nic_distances=far), GpuFact(5, "H20")),
            nics=(NicFact("mlx5_0", rate_gbps=400.0, rail=0), NicFact("mlx5_0", 2)),
            topology_sources={"s1": "configuration"},
        ),
        "devices": KnownDevices(
            [GpuSample(GpuHealth.OK, utilization_percent=0, sm_activity_percent=30)],
            [NicSample(True, share=0.0, link_flaps=0)],
        ),
    }
    return Agent("a", **(values | changes))  # type: ignore[arg-type]


def test_a_zero_is_shown_and_an_unknown_is_not() -> None:
    message = node_wire.node_message(an_agent(), (), NOW, with_devices=True)
    first, second = message.gpus
    assert (first.index, first.health, first.utilization_percent) == (3, "ok", 0)
    assert first.HasField("utilization_percent")
    assert not first.HasField("temperature_celsius")
    assert (second.index, second.health) == (5, "")
    assert not second.HasField("utilization_percent")
    assert dict(first.nic_distances) == {"mlx5_0": "pix"}
    port, other = message.nics
    assert (port.name, port.share_percent, port.link_flaps, port.rail) == ("mlx5_0", 0.0, 0, 0)
    assert other.name == "mlx5_0/2"
    assert not any(other.HasField(name) for name in ("active", "rail", "share_percent"))
    assert (message.nics_active, message.gpu_sm_activity_percent) == (1, 30.0)
    assert dict(message.topology_sources) == {"s1": "configuration"}


def test_of_a_silent_agent_readings_are_unknown_and_facts_are_not() -> None:
    message = node_wire.node_message(an_agent(silent=True), (), NOW, with_devices=True)
    assert (message.gpu_count, message.nic_count, message.nics[0].best_rate_gbps) == (2, 2, 400.0)
    assert not message.HasField("gpu_utilization_percent")
    assert not message.HasField("nics_active")
    assert not message.nics[0].HasField("active")


def test_devices_are_left_out_unless_wanted() -> None:
    message = node_wire.node_message(an_agent(), (), NOW)
    assert (len(message.gpus), len(message.nics)) == (0, 0)
