"""Reports, as columns: one sample of the host on the wire. NaN and what does not fit is unknown."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from heteroscale.convert import duration, to_wire
from heteroscale.v1 import agent_pb2
from heteroscale_agent.model import EngineReport, LatencyCounters, Report, RouterReport

_ENGINE_VALUES = (
    *("generation_tokens", "prompt_tokens", "computed_prompt_tokens"),
    *("requests_finished", "requests_aborted", "running", "waiting", "transferring", "kv_usage"),
)
_ROUTER_VALUES = (
    *("requests_finished", "requests_failed", "requests_rejected", "running", "waiting"),
)
_GPU_COLUMNS_BY_SUPPORT = (
    *("sm_activity_percent", "dram_activity_percent", "tensor_activity_percent"),
    *("sm_clock_mhz", "memory_clock_mhz", "throttle"),
    *("pcie_received_mib_per_s", "pcie_sent_mib_per_s"),
    *("nvlink_received_mib_per_s", "nvlink_sent_mib_per_s"),
    *("ecc_corrected", "xid_count", "last_xid", "foreign_process_count"),
)
"""Same name in the reading and on the wire."""
_WIDE = frozenset({"congestion_marks", "retransmissions", "xmit_wait"})
_MIB = 1024 * 1024
_MOST_32 = (1 << 31) - 1
_MOST_64 = (1 << 63) - 1


def report(one: Report, now: float, *, engines_only: bool = False) -> agent_pb2.Report:
    """Return a report as it is at ``now`` on the agent's clock."""
    message = agent_pb2.Report(
        sampled_ago=duration(max(0.0, now - one.sampled_at)),
        interval=duration(one.interval),
        engines=[_engine(engine) for engine in one.engines],
        routers=[_router(router) for router in one.routers],
    )
    if engines_only:
        return message
    _fill_gpus(message.gpus, one)
    _fill_nics(message.nics, one)
    host = one.host
    if host.cpu_percent is not None:
        message.host.cpu_percent = host.cpu_percent
    if host.memory_used_bytes is not None:
        message.host.memory_used_bytes = host.memory_used_bytes
    if host.load_1m is not None:
        message.host.load_1m = host.load_1m
    return message


def _fill_gpus(columns: agent_pb2.GpuReadings, one: Report) -> None:
    for gpu in one.gpus:
        memory = gpu.memory_used_bytes
        columns.utilization_percent.append(_or_unknown(gpu.utilization_percent))
        columns.memory_utilization_percent.append(_or_unknown(gpu.memory_utilization_percent))
        columns.memory_used_mib.append(_or_unknown(None if memory is None else memory // _MIB))
        columns.power_watts.append(_or_unknown(gpu.power_watts))
        columns.temperature_celsius.append(_or_unknown(gpu.temperature_celsius))
        columns.ecc_uncorrected.append(_or_unknown(gpu.ecc_uncorrected))
        columns.process_count.append(_or_unknown(gpu.process_count))
        columns.health.append(agent_pb2.GpuHealth.ValueType(to_wire(gpu.health)))
    for name in _GPU_COLUMNS_BY_SUPPORT:
        _fill_supported(columns, name, [getattr(gpu, name) for gpu in one.gpus])


def _fill_nics(columns: agent_pb2.NicReadings, one: Report) -> None:
    for nic in one.nics:
        columns.received_octets.append(_or_unknown(nic.received_octets, _MOST_64))
        columns.sent_octets.append(_or_unknown(nic.sent_octets, _MOST_64))
        columns.errors.append(_or_unknown(nic.errors, _MOST_64))
        columns.active.append(-1 if nic.active is None else int(nic.active))
    for name in ("congestion_marks", "retransmissions", "link_flaps", "xmit_wait"):
        _fill_supported(columns, name, [getattr(nic, name) for nic in one.nics])
    shares = [None if nic.share is None else 1000 * nic.share for nic in one.nics]
    _fill_supported(columns, "share_permille", shares)
    rates = [None if nic.rate_bps is None else nic.rate_bps / 1e9 for nic in one.nics]
    _fill_supported(columns, "rate_gbps", rates)


def _fill_supported(columns: Message, name: str, values: Sequence[float | None]) -> None:
    """Fill a column; one that nothing here supports is left out whole."""
    if any(value is not None for value in values):
        most = _MOST_64 if name in _WIDE else _MOST_32
        getattr(columns, name).extend(_or_unknown(value, most) for value in values)


def _or_unknown(value: float | None, most: int = _MOST_32) -> int:
    """Return a column's entry; NaN and what a column cannot hold is unknown too."""
    return round(value) if value is not None and 0 <= value <= most else -1


def _engine(engine: EngineReport) -> agent_pb2.EngineReading:
    message = agent_pb2.EngineReading(
        instance_id=engine.instance_id,
        quality=agent_pb2.ScrapeQuality.ValueType(to_wire(engine.quality)),
        age=duration(engine.age),
    )
    _fill_values(message, engine, _ENGINE_VALUES)
    if engine.gpu_memory_used_bytes is not None:
        message.gpu_memory_used_mib = min(int(engine.gpu_memory_used_bytes) // _MIB, _MOST_32)
    if engine.gpu_sm_percent is not None:
        message.gpu_sm_percent = engine.gpu_sm_percent
    _fill_latency(message.time_to_first_token, engine.time_to_first_token)
    _fill_latency(message.time_between_tokens, engine.time_between_tokens)
    return message


def _router(router: RouterReport) -> agent_pb2.RouterReading:
    message = agent_pb2.RouterReading(
        name=router.name,
        service=router.service,
        url=router.url,
        quality=agent_pb2.ScrapeQuality.ValueType(to_wire(router.quality)),
        age=duration(router.age),
    )
    _fill_values(message, router, _ROUTER_VALUES)
    _fill_latency(message.time_to_first_token, router.time_to_first_token)
    _fill_latency(message.time_between_tokens, router.time_between_tokens)
    return message


def _fill_values(message: Message, source: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(source, name)
        if value is not None:
            setattr(message, name, value)


def _fill_latency(message: agent_pb2.Latency, latency: LatencyCounters | None) -> None:
    if latency is None:
        return
    message.sum_seconds = latency.sum_seconds
    message.count = latency.count
    deltas = [min(delta, _MOST_32) for delta in latency.bucket_deltas]
    while deltas and not deltas[-1]:
        deltas.pop()
    message.bucket_deltas.extend(deltas)
