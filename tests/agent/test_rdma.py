"""RDMA ports read from a tree like the kernel's, whole and broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_agent.model import NicReading
from heteroscale_agent.probes.rdma import RdmaProbe
from tests.agent.rdma_tree import RdmaPort


@pytest.fixture
def port(tmp_path: Path) -> RdmaPort:
    return RdmaPort(tmp_path / "infiniband").create()


def read_one(port: RdmaPort) -> NicReading:
    (reading,) = RdmaProbe(port.root).read()
    return reading


def test_facts_of_a_port(port: RdmaPort) -> None:
    (nic,) = RdmaProbe(port.root).nics
    assert (nic.name, nic.port, nic.pci_address, nic.numa_node) == ("mlx5_0", 1, "0000:18:00.0", 0)
    assert (nic.rate_bps, nic.link_layer) == (400 * 10**9, "InfiniBand")
    assert (nic.hca_type, nic.firmware) == ("MT4129", "28.39.1002")


def test_octets_are_four_times_the_words(port: RdmaPort) -> None:
    port.counts(port_xmit_data=1000, port_rcv_data=2**62)
    seen = read_one(port)
    assert (seen.sent_octets, seen.received_octets) == (4000, 2**64)
    assert seen.active is True


def test_errors_of_link_and_transport_are_added_and_congestion_is_none(port: RdmaPort) -> None:
    port.counts(symbol_error=1, link_downed=2, port_xmit_wait=1000)
    port.hw_counts(out_of_sequence=4, np_cnp_sent=1000, rp_cnp_handled=1000)
    assert read_one(port).errors == 7


def test_a_link_that_is_down(port: RdmaPort) -> None:
    port.says(state="1: DOWN", phys_state="2: Polling", rate="10 Gb/sec (4X SDR)")
    seen = read_one(port)
    assert (seen.active, seen.rate_bps) == (False, 10**10)


@pytest.mark.parametrize("text", ["", "garbage", "-1", "1e9", "0x10", "²", "9" * 40, "\x00\x01"])
def test_garbage_is_unknown(port: RdmaPort, text: str) -> None:
    port.counts(port_xmit_data=text, port_rcv_data=5)
    port.says(state=text or " ", rate=text)
    seen = read_one(port)
    assert (seen.sent_octets, seen.received_octets) == (None, 20)
    assert (seen.active, seen.rate_bps) == (None, None)


def test_a_file_that_goes_away_makes_its_sum_unknown_and_comes_back(port: RdmaPort) -> None:
    probe = RdmaProbe(port.root)
    port.counts(symbol_error=3)
    assert probe.read()[0].errors == 3
    (port.folder / "hw_counters" / "out_of_sequence").unlink()
    assert probe.read()[0].errors is None
    port.hw_counts(out_of_sequence=0)
    assert probe.read()[0].errors == 3


def test_an_adapter_without_hardware_counters_still_has_errors(port: RdmaPort) -> None:
    for path in (port.folder / "hw_counters").iterdir():
        path.unlink()
    port.counts(symbol_error=3)
    assert read_one(port).errors == 3


def test_a_device_that_goes_away_is_unknown(port: RdmaPort) -> None:
    probe = RdmaProbe(port.root)
    port.root.rename(port.root.with_name("gone"))
    assert probe.read() == (NicReading(),)


def test_ports_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = tmp_path / "infiniband"
    for device in ("mlx5_10", "mlx5_2"):
        RdmaPort(root, device).create()
    RdmaPort(root, "mlx5_2", 2).create()
    found = [(nic.name, nic.port) for nic in RdmaProbe(root).nics]
    assert found == [("mlx5_2", 1), ("mlx5_2", 2), ("mlx5_10", 1)]


def test_unknown_files_and_folders_are_passed_over(port: RdmaPort) -> None:
    (port.root / "README").write_text("not a device")
    (port.folder.parent / "notes").mkdir()
    (port.folder / "counters" / "brand_new_error").write_text("77\n")
    probe = RdmaProbe(port.root)
    assert len(probe.nics) == 1
    assert probe.read()[0].errors == 0


def test_a_host_without_rdma_has_no_ports(tmp_path: Path) -> None:
    probe = RdmaProbe(tmp_path / "missing")
    assert (probe.nics, probe.read()) == ((), ())
