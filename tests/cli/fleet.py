"""A small fleet for the twin: one service in the middle of things, written out as values."""

from __future__ import annotations

import time

from heteroscale.convert import duration, timestamp
from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from tests.cli.twin import OperatorTwin

DOCUMENT = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: chat}
spec:
  roles:
    prefill: {template: sim, max: 4}
    decode: {template: sim, max: 8}
"""


def decision(**changes: object) -> pb.Decision:
    """Return a scale-out, changed as wished."""
    values: dict[str, object] = {
        "decision_id": "d-1",
        "service": "chat",
        "time": timestamp(time.time() - 192.5),
        "action": "scale_out",
        "prefill_delta": 1,
        "decode_delta": 2,
        "reason": "demand 3600 tok/s exceeds supply 2000 by more than 10 %",
        "inputs": {"demand": "3600 tok/s", "R": "3600 / 2000 = 1.80"},
        "bound_by": "demand",
        "repeat_count": 1,
    }
    return pb.Decision(**(values | changes))  # type: ignore[arg-type]


def service(**changes: object) -> pb.Service:
    """Return chat with two prefill and three of four decode instances, changed as wished."""
    values: dict[str, object] = {
        "name": "chat",
        "document": DOCUMENT,
        "condition": "ready",
        "ratio": 2 / 3,
        "roles": [
            pb.RoleStatus(role=types.ROLE_PREFILL, wanted=2, in_service=2, min=1, max=4),
            pb.RoleStatus(role=types.ROLE_DECODE, wanted=4, in_service=3, pending=1, min=1, max=8),
        ],
        "signals": [
            pb.Signal(name="decode_tps", value=1834.2, unit="tok/s", quality="ok", coverage=1),
            pb.Signal(name="ttft", unit="ms", quality="missing", coverage=0),
        ],
        "last_decision": decision(),
    }
    return pb.Service(**(values | changes))  # type: ignore[arg-type]


def instance(**changes: object) -> pb.Instance:
    """Return a decode instance in service, changed as wished."""
    values: dict[str, object] = {
        "instance_id": "aa11bb",
        "service": "chat",
        "role": types.ROLE_DECODE,
        "state": types.INSTANCE_STATE_IN_SERVICE,
        "agent_ids": ["node-1"],
        "gpu_type": "H20",
        "group": "chat-0",
        "endpoint": "http://127.0.0.1:9001",
        "create_time": timestamp(time.time() - 7200.5),
        "state_time": timestamp(time.time() - 192.5),
        "running": 3.0,
        "gpu_indices": [0, 1],
        "generation": 4,
    }
    return pb.Instance(**(values | changes))  # type: ignore[arg-type]


def gpus() -> list[pb.NodeGpu]:
    """Return a busy GPU and a lost one."""
    return [
        pb.NodeGpu(
            index=0,
            type="H20",
            memory_bytes=96 << 30,
            memory_used_mib=48 << 10,
            instance_id="aa11bb",
            health="ok",
            utilization_percent=71,
            sm_activity_percent=44,
            sm_clock_mhz=1830,
            throttle=3,
            temperature_celsius=61,
            ecc_uncorrected=0,
            xid_count=2,
            last_xid=79,
            nic_distances={"mlx5_0": "pix", "mlx5_1": "sys"},
            numa_node=0,
        ),
        pb.NodeGpu(index=1, type="H20", memory_bytes=96 << 30, health="lost"),
    ]


def nics() -> list[pb.NodeNic]:
    """Return a NIC at half its rate and one that is down."""
    return [
        pb.NodeNic(
            name="mlx5_0",
            link_layer="InfiniBand",
            rail=0,
            numa_node=0,
            best_rate_gbps=400,
            rate_gbps=200,
            active=True,
            share_percent=62.5,
            errors=3,
            link_flaps=1,
            retransmissions=12,
            xmit_wait=900,
        ),
        pb.NodeNic(name="mlx5_1", link_layer="InfiniBand", best_rate_gbps=400, active=False),
    ]


def nodes() -> list[pb.Node]:
    """Return a node with every column filled, and one that says little."""
    return [
        pb.Node(
            agent_id="node-1",
            hostname="gpu-host-1",
            connected=True,
            silent=duration(2.5),
            topology={"s1": "minipod-0", "s2": "bigpod-0"},
            gpu_type="H20",
            gpu_count=8,
            gpus_used=4,
            instance_ids=["aa11bb", "aa22cc"],
            agent_version="0.1.0",
            engine_versions={"chat-prefill": "0.5.21", "chat-decode": "0.5.20"},
            nic_count=2,
            nics_active=1,
            nic_share_percent=62.5,
            gpu_utilization_percent=71.0,
            gpu_sm_activity_percent=44.0,
            troubles=["GPU 1 lost", "RDMA port down: mlx5_1"],
            topology_sources={"s1": "configuration", "s2": "environment"},
            gpus=gpus(),
            nics=nics(),
        ),
        pb.Node(agent_id="node-2", hostname="gpu-host-2", gpu_type="L20", gpu_count=8),
    ]


def clusters() -> list[pb.Cluster]:
    """Return one whose scheduler does not answer, with a note, and one of hosts with agents."""
    return [
        pb.Cluster(
            name="east", adapter=True, state="down", state_time=timestamp(time.time() - 300),
            message="world: no answer within 10 s", nodes=2, silent_nodes=2, gpu_count=16,
            gpus_used=3, instances={"chat": 3}, own_quotas={"": 8}, gpu_quotas={"H20": 12},
            service_quotas={"chat": 6}, gpu_prices={"H20": 2.1},
            notes=["orphan i-9: no service 'old' is known here; launched by a coordinator"],
        ),
        pb.Cluster(state="up", nodes=1, gpu_count=8),
    ]  # fmt: skip


def fill(twin: OperatorTwin) -> None:
    """Give the twin a service, two instances, a node, a group and two decisions."""
    twin.services["chat"] = service()
    twin.instances["aa11bb"] = instance()
    twin.instances["aa22cc"] = instance(
        instance_id="aa22cc",
        role=types.ROLE_PREFILL,
        state=types.INSTANCE_STATE_WITHDRAWN,
        withdraw_reason=types.WITHDRAW_REASON_SOFT_SCALE_IN,
    )
    twin.nodes = nodes()
    twin.clusters = clusters()
    twin.groups = [
        pb.Group(name="chat-0", service="chat", domain="s1=minipod-0", prefill=1, decode=2),
        pb.Group(name="chat-1", service="chat", domain="s1=minipod-1", prefill=1),
    ]
    hold = decision(
        decision_id="d-2",
        action="hold",
        prefill_delta=0,
        decode_delta=0,
        reason="R 0.97 is within 1 ± 0.10",
        repeat_count=14,
        last_time=timestamp(time.time() - 4.5),
    )
    twin.decisions = [hold, decision()]
    twin.explanations["chat"] = pb.ExplainServiceResponse(
        service=twin.services["chat"], decision=decision(), lines=["It scales in below R 0.90."]
    )
