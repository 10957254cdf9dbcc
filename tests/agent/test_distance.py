"""How far a GPU is from a NIC: from paths alone, and from trees."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heteroscale.words import NicDistance
from heteroscale_agent.probes.distance import PciPlace, Places, as_sysfs, distance
from heteroscale_workbench.rdma_tree import RdmaHost, add_pci_device

# A DGX A100's root port with a switch: one port upward, several downward, one of them to a second
# switch, as inside a DPU.
BRIDGE = "pci0000:15"
SWITCH = (BRIDGE, "0000:15:01.0", "0000:16:00.0")
GPU = (*SWITCH, "0000:17:00.0", "0000:18:00.0")
NIC = (*SWITCH, "0000:17:01.0", "0000:19:00.0")
DPU = (*SWITCH, "0000:17:02.0", "0000:1a:00.0", "0000:1b:00.0", "0000:1c:00.0")


@pytest.mark.parametrize(
    ("nic", "numa", "far"),
    [
        (NIC, 0, NicDistance.PIX),
        ((*GPU[:-1], "0000:18:00.1"), 0, NicDistance.PIX),
        (DPU, 0, NicDistance.PXB),
        ((BRIDGE, "0000:15:02.0", "0000:20:00.0"), 0, NicDistance.PHB),
        # As hypervisors show what they hand through.
        ((BRIDGE, "0000:15:09.0"), None, NicDistance.PHB),
        (("pci0000:30", "0000:30:01.0", "0000:31:00.0"), 0, NicDistance.NODE),
        (("pci0000:a0", "0000:a0:01.0", "0000:a1:00.0"), 1, NicDistance.SYS),
        (("pci0000:a0", "0000:a0:01.0", "0000:a1:00.0"), None, None),
    ],
)
def test_words_are_those_of_nvidia_smi(
    nic: tuple[str, ...], numa: int | None, far: NicDistance | None
) -> None:
    assert distance(PciPlace(GPU, 0), PciPlace(nic, numa)) == far


PLACES = st.builds(
    PciPlace,
    st.lists(st.sampled_from("abc"), min_size=2, max_size=6).map(tuple),
    st.none() | st.integers(0, 1),
)


@given(PLACES, PLACES)
def test_distance_is_the_same_both_ways_and_never_raises(one: PciPlace, other: PciPlace) -> None:
    assert distance(one, other) == distance(other, one)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("00000000:1B:00.0", "0000:1b:00.0"),
        ("0000:1b:00.0", "0000:1b:00.0"),
        ("1b:00.0", "0000:1b:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("", None),
        ("../../etc/passwd", None),
        ("0000:1b:00.9", None),
    ],
)
def test_addresses_as_drivers_write_them(written: str, name: str | None) -> None:
    assert as_sysfs(written) == name


def test_a_host_with_a_switch_for_each_pair(tmp_path: Path) -> None:
    host = RdmaHost.build(tmp_path, pairs=8)
    places = Places(host.pci)
    nics = [port.root / port.device for port in host.ports]
    table = [
        [places.distance(gpu, (nic / "device").resolve().name) for nic in nics]
        for gpu in host.gpu_addresses
    ]
    for gpu, row in enumerate(table):
        for nic, far in enumerate(row):
            same_socket = NicDistance.NODE if gpu // 4 == nic // 4 else NicDistance.SYS
            assert far == (NicDistance.PIX if gpu == nic else same_socket)


def test_a_hypervisors_host_bridge_lies_deep(tmp_path: Path) -> None:
    above = ("LNXSYSTM:00", "LNXSYBUS:00", "VMBUS:00", "47505500-0001")
    add_pci_device(tmp_path, (*above, "pci0001:00", "0001:00:00.0"), -1)
    add_pci_device(tmp_path, (*above, "pci0002:00", "0002:00:00.0"), -1)
    places = Places(tmp_path / "pci")
    assert places.place("0001:00:00.0") == PciPlace(("pci0001:00", "0001:00:00.0"), None)
    assert places.distance("0001:00:00.0", "0002:00:00.0") is None


def test_what_sysfs_does_not_know_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "pci").mkdir()
    (tmp_path / "pci" / "0000:01:00.0").symlink_to(tmp_path / "nowhere")
    (tmp_path / "pci" / "0000:02:00.0").symlink_to(tmp_path)
    (tmp_path / "pci" / "0000:03:00.0").symlink_to("0000:03:00.0")
    places = Places(tmp_path / "pci")
    for address in ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0", "garbage"):
        assert places.place(address) is None
