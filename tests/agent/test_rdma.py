"""RDMA ports read from trees like the kernel's, of several drivers, whole and broken."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from heteroscale_agent.config import RdmaSettings
from heteroscale_agent.model import NicReading
from heteroscale_agent.probes.rdma import RdmaProbe, RdmaRules, RdmaSight
from heteroscale_agent.probes.rdma.probe import SCAN_SECONDS, SLOW_EVERY
from heteroscale_agent.probes.sysfs import KeptFile
from heteroscale_workbench.rdma_tree import FAMILIES, RdmaHost, RdmaPort


class HandClock:
    """Virtual seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def port(tmp_path: Path) -> RdmaPort:
    return RdmaPort(tmp_path / "infiniband").create()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def read_one(port: RdmaPort) -> NicReading:
    (reading,) = RdmaProbe(port.root).read().readings
    return reading


def read_all(probe: RdmaProbe) -> RdmaSight:
    """Read until every slow file was read anew."""
    return [probe.read() for _ in range(SLOW_EVERY)][-1]


def test_facts_of_an_infiniband_port(port: RdmaPort) -> None:
    (nic,) = RdmaProbe(port.root).read().nics
    assert (nic.name, nic.port, nic.pci_address, nic.numa_node) == ("mlx5_0", 1, "0000:18:00.0", 0)
    assert (nic.rate_bps, nic.link_layer) == (400 * 10**9, "InfiniBand")
    assert (nic.hca_type, nic.firmware) == ("MT4129", "28.39.1002")
    assert (nic.node_guid, nic.netdev, nic.rail) == ("9803:9b03:00a1:0000", "", None)


def test_facts_of_a_roce_port(tmp_path: Path) -> None:
    port = RdmaPort(tmp_path / "infiniband", "mlx5_3", family=FAMILIES["mlx5-roce"]).create()
    (nic,) = RdmaProbe(port.root).read().nics
    assert (nic.link_layer, nic.netdev) == ("Ethernet", "eth3")


def test_the_network_device_without_gids_is_the_devices_only_one(tmp_path: Path) -> None:
    port = RdmaPort(tmp_path / "infiniband", "mlx5_3", family=FAMILIES["mlx5-roce"]).create()
    (port.folder / "gid_attrs" / "ndevs" / "0").unlink()
    assert RdmaProbe(port.root).read().nics[0].netdev == "eth3"


def test_a_driver_without_a_type_file_is_named_by_its_bus(tmp_path: Path) -> None:
    port = RdmaPort(tmp_path / "infiniband", "irdma0", family=FAMILIES["irdma"]).create()
    assert RdmaProbe(port.root).read().nics[0].hca_type == "ice"


def test_octets_are_four_times_the_words(port: RdmaPort) -> None:
    port.counts(port_xmit_data=1000, port_rcv_data=2**62)
    seen = read_one(port)
    assert (seen.sent_octets, seen.received_octets) == (4000, 2**64)
    assert seen.active is True


def test_a_32_bit_data_counter_at_its_top_counts_nothing_any_more(port: RdmaPort) -> None:
    port.counts(port_xmit_data=2**32 - 1, port_rcv_data=2**32 - 2)
    seen = read_one(port)
    assert (seen.sent_octets, seen.received_octets) == (None, 4 * (2**32 - 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_driver_tells_octets_congestion_and_retransmissions(
    tmp_path: Path, family: str
) -> None:
    host = RdmaHost.build(tmp_path, family, pairs=1)
    (port,) = host.ports
    port.transfer(sent=4_000, received=8_000)
    seen = RdmaProbe(host.infiniband).read().readings[0]
    assert (seen.sent_octets, seen.received_octets) == (4_000, 8_000)
    assert seen.retransmissions
    assert seen.errors
    roce = port.family.link_layer == "Ethernet"
    assert bool(seen.congestion_marks) is roce
    assert (seen.xmit_wait, seen.link_downed) == ((0, 0) if port.family.counters else (None, None))


def test_irdma_adds_both_internet_protocols(tmp_path: Path) -> None:
    port = RdmaPort(tmp_path / "infiniband", "irdma0", family=FAMILIES["irdma"]).create()
    port.add(ip4InOctets=5, ip6InOctets=7, ip6OutOctets=3)
    seen = read_one(port)
    assert (seen.received_octets, seen.sent_octets) == (12, 3)


def test_each_counter_stands_by_itself(port: RdmaPort) -> None:
    port.counts(symbol_error=1, link_downed=2, port_xmit_wait=1000)
    port.hw_counts(out_of_sequence=4, packet_seq_err=5, req_cqe_error=99, req_cqe_flush_error=99)
    seen = read_one(port)
    assert sum(value or 0 for value in seen.errors.values()) == 5
    assert (seen.errors["symbol_error"], seen.errors["out_of_sequence"]) == (1, 4)
    assert seen.retransmissions["packet_seq_err"] == 5
    assert (seen.link_downed, seen.xmit_wait) == (2, 1000)


def test_counters_of_a_device_are_its_only_ports_too(tmp_path: Path) -> None:
    port = RdmaPort(tmp_path / "infiniband").create()
    shared = port.root / port.device / "hw_counters"
    shared.mkdir()
    (shared / "sent_cnps").write_text("7\n")
    (shared / "out_of_buffer").write_text("99\n")
    seen = read_one(port)
    assert seen.congestion_marks == {"sent_cnps": 7}
    assert seen.errors["out_of_buffer"] == 0
    RdmaPort(tmp_path / "infiniband", port=2).create()
    assert all(not one.congestion_marks for one in RdmaProbe(port.root).read().readings)


def test_a_link_that_is_down_has_no_rate(port: RdmaPort) -> None:
    port.down()
    sight = RdmaProbe(port.root).read()
    assert (sight.readings[0].active, sight.readings[0].rate_bps) == (False, None)
    assert sight.nics[0].rate_bps is None


def test_a_link_that_comes_up_slower_says_so_at_once_and_keeps_its_best_rate(
    port: RdmaPort,
) -> None:
    probe = RdmaProbe(port.root)
    assert probe.read().readings[0].rate_bps == 400 * 10**9
    port.down()
    probe.read()
    port.up(200)
    sight = probe.read()
    assert (sight.readings[0].active, sight.readings[0].rate_bps) == (True, 200 * 10**9)
    assert sight.nics[0].rate_bps == 400 * 10**9


def test_slow_files_are_read_every_few_samples(port: RdmaPort) -> None:
    probe = RdmaProbe(port.root)
    probe.read()
    port.add(symbol_error=3)
    seen = [probe.read().readings[0].errors["symbol_error"] for _ in range(2 * SLOW_EVERY)]
    assert seen == sorted(value or 0 for value in seen)
    assert {seen[0], seen[SLOW_EVERY - 1]} == {0, 3}


@pytest.mark.parametrize("text", ["", "garbage", "-1", "1e9", "0x10", "²", "9" * 40, "\x00\x01"])
def test_garbage_is_unknown(port: RdmaPort, text: str) -> None:
    probe = RdmaProbe(port.root)
    probe.read()
    port.counts(port_xmit_data=text, port_rcv_data=5, symbol_error=text)
    port.says(state=text or " ", rate=text)
    seen = read_all(probe).readings[0]
    assert (seen.sent_octets, seen.received_octets) == (None, 20)
    assert (seen.active, seen.rate_bps) == (None, None)
    assert (seen.errors["symbol_error"], seen.errors["out_of_buffer"]) == (None, 0)


def test_a_counter_that_goes_away_is_unknown_and_comes_back(port: RdmaPort) -> None:
    probe = RdmaProbe(port.root)
    port.counts(symbol_error=3)
    assert probe.read().readings[0].errors["symbol_error"] == 3
    (port.folder / "counters" / "symbol_error").unlink()
    assert read_all(probe).readings[0].errors["symbol_error"] is None
    port.counts(symbol_error=4)
    assert read_all(probe).readings[0].errors["symbol_error"] == 4


def test_what_an_adapter_never_says_is_not_waited_for(port: RdmaPort) -> None:
    port.counts(symbol_error="N/A (no PMA)")
    seen = read_one(port)
    assert "symbol_error" not in seen.errors
    assert seen.errors["port_rcv_errors"] == 0


def test_an_adapter_without_hardware_counters_still_has_errors(port: RdmaPort) -> None:
    for path in (port.folder / "hw_counters").iterdir():
        path.unlink()
    seen = read_one(port)
    assert seen.errors
    assert (seen.congestion_marks, seen.retransmissions) == ({}, {})


def test_a_device_that_goes_away_is_unknown_and_then_gone(port: RdmaPort, clock: HandClock) -> None:
    probe = RdmaProbe(port.root, clock=clock)
    probe.read()
    port.remove()
    seen = probe.read().readings[0]
    assert (seen.active, seen.sent_octets, seen.rate_bps) == (None, None, None)
    clock.now += SCAN_SECONDS
    assert probe.read() == RdmaSight()


def test_a_reloaded_driver_is_read_on_before_anybody_looks_for_it(
    port: RdmaPort, clock: HandClock
) -> None:
    probe = RdmaProbe(port.root, clock=clock)
    port.transfer(sent=400)
    assert probe.read().readings[0].sent_octets == 400
    port.remove()
    probe.read()
    port.reload()
    port.transfer(sent=40)
    seen = probe.read().readings[0]
    assert (seen.active, seen.sent_octets) == (True, 40)


def test_ports_that_appear_are_found(tmp_path: Path, clock: HandClock) -> None:
    probe = RdmaProbe(tmp_path / "infiniband", clock=clock)
    assert probe.read() == RdmaSight()
    RdmaPort(tmp_path / "infiniband").create()
    assert probe.read() == RdmaSight()
    clock.now += SCAN_SECONDS
    assert [nic.name for nic in probe.read().nics] == ["mlx5_0"]


def test_another_device_under_the_same_name_is_another(port: RdmaPort, clock: HandClock) -> None:
    probe = RdmaProbe(port.root, clock=clock)
    probe.read()
    (port.root / port.device / "node_guid").write_text("0000:0000:0000:0001\n")
    port.up(200)
    clock.now += SCAN_SECONDS
    (nic,) = probe.read().nics
    assert (nic.node_guid, nic.rate_bps) == ("0000:0000:0000:0001", 200 * 10**9)


def test_a_listing_that_fails_takes_no_port_away(tmp_path: Path, clock: HandClock) -> None:
    root = tmp_path / "infiniband"
    RdmaPort(root).create()
    probe = RdmaProbe(root, clock=clock)
    probe.read()
    root.rename(tmp_path / "aside")
    root.write_text("a file where a folder should be")
    clock.now += SCAN_SECONDS
    assert [nic.name for nic in probe.read().nics] == ["mlx5_0"]


def test_ports_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = tmp_path / "infiniband"
    for device in ("mlx5_10", "mlx5_2"):
        RdmaPort(root, device).create()
    RdmaPort(root, "mlx5_2", 2).create()
    found = [(nic.name, nic.port) for nic in RdmaProbe(root).read().nics]
    assert found == [("mlx5_2", 1), ("mlx5_2", 2), ("mlx5_10", 1)]


def test_unknown_files_and_folders_are_passed_over(port: RdmaPort) -> None:
    (port.root / "README").write_text("not a device")
    for name in ("notes", "99999999999", "٣"):
        (port.folder.parent / name).mkdir()
    (port.folder / "counters" / "brand_new_error").write_text("77\n")
    sight = RdmaProbe(port.root).read()
    assert len(sight.nics) == 1
    assert not any(sight.readings[0].errors.values())


def test_a_name_of_strange_bytes_is_not_reported(tmp_path: Path) -> None:
    port = RdmaPort(tmp_path / "infiniband", "mlx5_3", family=FAMILIES["mlx5-roce"]).create()
    (port.folder / "gid_attrs" / "ndevs" / "0").unlink()
    networks = port.root / port.device / "device" / "net"
    (networks / "eth3").rename(networks / os.fsdecode(b"e\xffth"))
    (port.root / os.fsdecode(b"mlx5_\xff")).symlink_to(port.root / "mlx5_3")
    (nic,) = RdmaProbe(port.root).read().nics
    assert (nic.name, nic.netdev) == ("mlx5_3", "")


LOOPBACK = Path("/sys/class/net/lo/statistics/rx_packets")


@pytest.mark.skipif(not LOOPBACK.exists(), reason="no sysfs here")
def test_an_open_file_of_the_real_sysfs_is_read_anew() -> None:
    kept = KeptFile(str(LOOPBACK))
    before = kept.number()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(3):
            sender.sendto(b"x", ("127.0.0.1", 9))
    after = kept.number()
    kept.close()
    assert before is not None
    assert after is not None
    assert after >= before + 3


# ---- rules -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (RdmaRules(exclude=("mlx5_1", "mlx5_2/1", "eth3")), ["mlx5_0"]),
        (RdmaRules(include=("mlx5_[01]",)), ["mlx5_0", "mlx5_1"]),
        (RdmaRules(include=("eth*",), exclude=("mlx5_*/1",)), []),
    ],
)
def test_ports_are_chosen_by_patterns(tmp_path: Path, rules: RdmaRules, kept: list[str]) -> None:
    host = RdmaHost.build(tmp_path, "mlx5-roce", pairs=4)
    assert [nic.name for nic in RdmaProbe(host.infiniband, rules).read().nics] == kept


def test_limits_are_of_a_port_a_device_or_all(tmp_path: Path) -> None:
    host = RdmaHost.build(tmp_path, pairs=3)
    limits = {"mlx5_0": 1e9, "mlx5_1/1": 2e9, "mlx5_1": 3e9, "default": 4e9}
    assert RdmaProbe(host.infiniband, RdmaRules(limits_bps=limits)).read().limits_bps == (
        1e9,
        2e9,
        4e9,
    )
    assert RdmaProbe(host.infiniband).read().limits_bps == (None, None, None)


def test_rails_are_named_or_follow_the_pci_order(tmp_path: Path) -> None:
    root = tmp_path / "infiniband"
    for device, pci in (("mlx5_0", "0000:c0:00.0"), ("mlx5_1", "0000:18:00.0")):
        RdmaPort(root, device).create(pci=pci)
    rails = [
        [nic.rail for nic in RdmaProbe(root, rules).read().nics]
        for rules in (
            RdmaRules(),
            RdmaRules(rails={"mlx5_1": 7}),
            RdmaRules(rails_in_order=True),
            RdmaRules(rails={"mlx5_0/1": 5}, rails_in_order=True),
        )
    ]
    assert rails == [[None, None], [None, 7], [1, 0], [5, 0]]


@pytest.mark.parametrize(
    ("field", "value"),
    [("rails", {"mlx5_0": -1}), ("rails", {"mlx5_0": 2**40}), ("limits", {"default": 0})],
)
def test_rules_that_cannot_be_meant_are_refused(field: str, value: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=field):
        RdmaSettings.model_validate({field: value})


def test_distances_follow_the_gpus_that_are_asked_for(tmp_path: Path) -> None:
    host = RdmaHost.build(tmp_path, pairs=4)
    probe = RdmaProbe(host.infiniband, pci_root=host.pci)
    assert probe.read().distances == {}
    first = f"0000{host.gpu_addresses[0].upper()}"
    probe.gpu_addresses = (first, "0000:ff:00.0")
    assert probe.read().distances == {
        first: ("pix", "node", "sys", "sys"),
        "0000:ff:00.0": (None,) * 4,
    }
