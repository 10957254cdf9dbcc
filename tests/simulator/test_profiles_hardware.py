"""GPU types and models: names, values, files of one's own, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_agent.probes.gpu.naming import short_type
from heteroscale_simulator.profiles.hardware import hardware, short_name
from heteroscale_simulator.profiles.shapes import shapes

HEADER = (
    "gpu,aliases,bf16_tflops,fp8_tflops,memory_gib,memory_kind,memory_gbps,link,link_gbps,power_w,"
    "price_per_hour,source"
)
ROW = "X1,X1-64GB,100,,64,HBM,2000,nvlink,400,300,1,its vendor"


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("AMD Instinct MI300X", "MI300X"),
    ],
)
def test_types_bear_the_names_that_agents_report(driver: str, name: str) -> None:
    assert short_type(driver) == name
    assert name in hardware()


def test_every_row_is_sound() -> None:
    for name, kind in hardware().items():
        assert kind.name == name
        assert kind.source
        assert kind.fp8_tflops is None or 1.9 < kind.fp8_tflops / kind.bf16_tflops < 2.1
        assert (kind.memory_kind == "HBM") == (kind.link == "nvlink")  # so far
        assert name == short_type(name)


def test_known_values() -> None:
    h100, a100 = hardware()["H100"], hardware()["A100"]
    assert (h100.bf16_tflops, h100.fp8_tflops, h100.memory_gbps) == (989, 1979, 3350)
    assert h100.tflops("fp8") == 1979
    assert a100.tflops("fp8") == a100.tflops("bfloat16") == 312
    assert hardware()["H20"].bf16_tflops < hardware()["L40S"].bf16_tflops


def test_a_table_s_long_name_is_shortened_and_a_strange_one_stays() -> None:
    known = hardware()
    assert short_name("H100-SXM-80GB", known) == "H100"
    assert short_name("A100-SXM4-80GB", known) == "A100"
    assert short_name("L40S-48GB", known) == "L40S"
    assert short_name("H200-SXM-141GB", known) == "H200"
    assert short_name("H100-PCIe-80GB", known) == "H100-PCIe-80GB"
    aliases = [alias for kind in known.values() for alias in kind.aliases]
    assert len(aliases) == len(set(aliases))


def test_kv_bytes_follow_from_the_shape() -> None:
    assert shapes()["Llama-3.1-8B"].kv_bytes_per_token == 128 * 1024
    assert shapes()["Llama-3.1-70B"].kv_bytes_per_token == 320 * 1024


def test_parameters_follow_from_the_shape_within_the_feed_forward_s_width() -> None:
    for shape in shapes().values():
        attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_size
        others = shape.parameters - 2 * shape.table - shape.layers * attention
        width = others / (3 * shape.layers * shape.hidden * shape.hidden)  # in hidden sizes
        assert 2.5 < width < 5.5, shape.name


def test_a_file_of_one_s_own_adds_and_replaces(tmp_path: Path) -> None:
    own = ROW + "\n" + ROW.replace("X1,X1-64GB", "H100,")
    (tmp_path / "hardware.csv").write_text(f"\N{BYTE ORDER MARK}{HEADER}\n{own}\n")
    known = hardware(tmp_path)
    assert known["X1"].memory_gib == 64
    assert known["H100"].bf16_tflops == 100
    assert known["A100"] == hardware()["A100"]
    assert short_name("X1-64GB", known) == "X1"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (",64,HBM", ",nan,HBM", "hardware.csv:2: memory_gib is nan"),
        (",64,HBM", ",-1,HBM", "hardware.csv:2: memory_gib is -1"),
        (",64,HBM", ",big,HBM", "hardware.csv:2: memory_gib: could not convert"),
        (",HBM", ",DRAM", "memory_kind is 'DRAM', not HBM or GDDR"),
        ("nvlink", "string", "link is 'string', not nvlink or pcie"),
        (",its vendor", "", "hardware.csv:2: more or fewer cells"),
        (",its vendor", ",its vendor,x", "hardware.csv:2: more or fewer cells"),
        ("power_w", "watts", "no column 'power_w'; it has gpu, aliases"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    (tmp_path / "hardware.csv").write_text(f"{HEADER}\n{ROW}\n".replace(old, new))
    with pytest.raises(ValueError, match=r"hardware\.csv") as caught:
        hardware(tmp_path)
    assert complaint in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"models.csv: .*decode"):
        shapes(tmp_path)


def test_layers_are_whole(tmp_path: Path) -> None:
    (tmp_path / "models.csv").write_text(
        "model,parameters,layers,hidden,heads,kv_heads,head_size,vocabulary\nM,1e9,2.5,8,8,8,8,8\n"
    )
    with pytest.raises(ValueError, match=r"layers is 2\.5, not a whole number"):
        shapes(tmp_path)
