"""The wire code that stands beside the .proto files is what they say now."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from heteroscale.v1 import agent_pb2, operator_pb2, types_pb2

PROTO = Path(__file__).resolve().parents[2] / "proto"


def check(proto: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(proto / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_generated_code_is_up_to_date() -> None:
    done = check(PROTO)
    assert done.returncode == 0, f"{done.stderr}; run `make proto`"


def test_a_change_of_a_proto_file_is_noticed(tmp_path: Path) -> None:
    copy = shutil.copytree(PROTO, tmp_path / "proto")
    types = copy / "heteroscale" / "v1" / "types.proto"
    types.write_text(types.read_text().replace("ROLE_FFN = 5;", "ROLE_FFN = 5;\n  ROLE_NEW = 6;"))
    (copy / "heteroscale" / "v1" / "operator_pb2.pyi").unlink()
    done = check(copy)
    assert done.returncode == 1
    verdict = done.stderr.splitlines()[-1]
    for name in ("types_pb2.py", "types_pb2.pyi", "operator_pb2.pyi"):
        assert f"heteroscale/v1/{name}" in verdict
    assert "agent_pb2" not in verdict


def test_every_enum_begins_with_unspecified_and_names_are_prefixed() -> None:
    for module in (types_pb2, agent_pb2, operator_pb2):
        for enum in module.DESCRIPTOR.enum_types_by_name.values():
            prefix = "".join(f"_{c}" if c.isupper() else c.upper() for c in enum.name)[1:]
            assert enum.values_by_number[0].name == f"{prefix}_UNSPECIFIED"
            assert all(value.name.startswith(f"{prefix}_") for value in enum.values)
