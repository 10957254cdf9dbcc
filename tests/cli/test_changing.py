"""apply, delete, pause, resume, scale, drain, reinstate: what is sent, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest

from heteroscale.v1 import operator_pb2 as pb
from heteroscale.v1 import types_pb2 as types
from tests.cli import fleet
from tests.cli.conftest import Typed
from tests.cli.twin import OperatorTwin

BAD = fleet.DOCUMENT.replace("max: 4", "maxx: 4").replace("name: chat", "name: bad")


def sent(twin: OperatorTwin, kind: type[object]) -> list[object]:
    return [request for request in twin.requests if isinstance(request, kind)]


def test_apply_a_file_creates_and_then_configures(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    file = tmp_path / "new.yaml"
    file.write_text(fleet.DOCUMENT.replace("chat", "new"))
    assert typed("apply", "-f", str(file)).stdout == "service/new created\n"
    assert typed("apply", "-f", str(file)).stdout == "service/new configured\n"
    assert twin.services["new"].document == file.read_text()


def test_apply_reads_standard_input(typed: Typed, twin: OperatorTwin) -> None:
    result = typed("apply", "-f", "-", stdin=fleet.DOCUMENT)
    assert result.stdout == "service/chat configured\n"
    assert twin.requests[-1].file_name == "<stdin>"


def test_apply_a_folder_checks_every_file_before_the_first_is_applied(
    typed: Typed, twin: OperatorTwin, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(fleet.DOCUMENT.replace("chat", "a"))
    (tmp_path / "b.yml").write_text(BAD)
    (tmp_path / "notes.txt").write_text("not read")
    result = typed("apply", "-f", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{tmp_path}/b.yml:6: spec.roles.prefill.maxx: unknown field")
    assert "a" not in twin.services
    (tmp_path / "b.yml").unlink()
    assert typed("apply", "-f", str(tmp_path)).exit_code == 0
    assert "a" in twin.services


def test_apply_prints_violations_as_they_are(typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD.replace("max: 8", "min: 9, max: 8"))
    result = typed("apply", "-f", str(file))
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()
    assert first.startswith(f"{file}:6: spec.roles.prefill.maxx: ")
    assert second.startswith(f"{file}:7: spec.roles.decode: min 9 is above max 8")


def test_dry_run_changes_nothing(typed: Typed, twin: OperatorTwin) -> None:
    result = typed("apply", "-f", "-", "--dry-run", stdin=fleet.DOCUMENT.replace("chat", "new"))
    assert result.stdout == "service/new created (dry run)\n"
    assert [r.validate_only for r in twin.requests] == [True]
    assert "new" not in twin.services


def test_apply_as_json(typed: Typed) -> None:
    result = typed("apply", "-f", "-", "-o", "json", stdin=fleet.DOCUMENT)
    assert json.loads(result.stdout) == {"results": [{"name": "chat", "change": "configured"}]}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * (1024 * 1024 + 1)])
def test_apply_refuses_unreadable_files_before_it_calls(
    typed: Typed, twin: OperatorTwin, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    for name in (str(file), str(tmp_path / "missing.yaml"), str(tmp_path / "empty")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        result = typed("apply", "-f", name)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error: {name}: ")
    assert twin.requests == []


def test_apply_nothing(typed: Typed) -> None:
    result = typed("apply", "-f", "-", stdin="")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "<stdin>:1: holds no document; one of kind Service is due\n"


def test_delete_needs_a_yes(typed: Typed, twin: OperatorTwin) -> None:
    refused = typed("delete", "service", "chat")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    assert "chat" in twin.services
    done = typed("delete", "svc", "chat", "--yes")
    assert done.stdout == "service/chat deleted; its instances run on, unmanaged\n"
    assert twin.requests == [pb.DeleteServiceRequest(name="chat")]


def test_delete_with_drain(typed: Typed, twin: OperatorTwin) -> None:
    assert "draining" in typed("delete", "service", "chat", "--drain", "-y").stdout
    assert twin.requests == [pb.DeleteServiceRequest(name="chat", drain=True)]


def test_a_node_that_is_gone_is_deleted(typed: Typed, twin: OperatorTwin) -> None:
    done = typed("delete", "node", "gpu-7", "--yes")
    assert done.stdout == "node/gpu-7 deleted; its instances are given up and replaced\n"
    assert typed("delete", "node", "gpu-7", "--drain", "--yes").exit_code == 2


def test_instances_are_not_deleted(typed: Typed, twin: OperatorTwin) -> None:
    result = typed("delete", "instance", "aa11bb", "--yes")
    assert result.exit_code == 2
    assert twin.requests == []


def test_pause_and_resume(typed: Typed, twin: OperatorTwin) -> None:
    assert typed("pause", "chat", "--reason", "load test").stdout == "service/chat paused\n"
    assert twin.requests == [pb.PauseServiceRequest(name="chat", reason="load test")]
    assert "paused" in typed("get", "svc").stdout
    assert typed("resume", "chat").stdout == "service/chat resumed\n"
    twin.services["chat"].advisory = True
    assert "advisory" in typed("resume", "chat").stdout


def test_scale_sends_only_what_was_given(typed: Typed, twin: OperatorTwin) -> None:
    result = typed("scale", "chat", "--decode", "6")
    assert result.stdout == "service/chat scaled; wanted: prefill 2, decode 6\n"
    assert "heteroscale pause chat" in result.stderr
    assert twin.requests == [pb.ScaleServiceRequest(name="chat", decode=6)]
    twin.services["chat"].paused = True
    assert typed("scale", "chat", "--prefill", "0", "--decode", "0").stderr == ""
    assert twin.requests[-1] == pb.ScaleServiceRequest(name="chat", prefill=0, decode=0)


def test_scale_without_a_count_or_with_a_negative_one_is_wrong_usage(
    typed: Typed, twin: OperatorTwin
) -> None:
    assert typed("scale", "chat").exit_code == 2
    assert typed("scale", "chat", "--decode", "-1").exit_code == 2
    assert twin.requests == []


def test_drain_sends_id_and_reason(typed: Typed, twin: OperatorTwin) -> None:
    result = typed("drain", "aa11bb", "--reason", "fan noise")
    assert result.stdout == "instance/aa11bb draining (now draining)\n"
    assert twin.requests == [pb.DrainInstanceRequest(instance_id="aa11bb", reason="fan noise")]


def test_the_beginning_of_an_id_drains_only_when_it_fits_one(
    typed: Typed, twin: OperatorTwin
) -> None:
    assert typed("drain", "aa").exit_code == 1
    states = {i.state for i in twin.instances.values()}
    assert types.INSTANCE_STATE_DRAINING not in states
    assert typed("drain", "aa1").exit_code == 0
    assert twin.instances["aa11bb"].state == types.INSTANCE_STATE_DRAINING
    assert twin.requests[-1].instance_id == "aa11bb"


def _end(state: types.InstanceState.ValueType, message: str = "") -> pb.WatchResponse:
    return pb.WatchResponse(instance=fleet.instance(state=state, message=message))


def test_drain_wait_ends_when_the_instance_has_stopped(typed: Typed, twin: OperatorTwin) -> None:
    twin.story = [_end(types.INSTANCE_STATE_TERMINATED)]
    result = typed("drain", "aa11bb", "--wait")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "instance/aa11bb stopped"
    assert sent(twin, pb.WatchRequest) == [pb.WatchRequest(service="chat")]


def test_drain_wait_of_an_instance_that_is_gone_already(typed: Typed, twin: OperatorTwin) -> None:
    twin.gone_when_drained = True
    assert typed("drain", "aa11bb", "--wait").stdout.splitlines()[-1] == "instance/aa11bb gone"


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (types.INSTANCE_STATE_IN_SERVICE, "in_service"),
        (types.INSTANCE_STATE_FAILED, "failed: engine aborted"),
    ],
)
def test_drain_wait_fails_when_it_ends_otherwise(
    typed: Typed, twin: OperatorTwin, state: types.InstanceState.ValueType, word: str
) -> None:
    twin.story = [_end(state, "engine aborted" if "failed" in word else "")]
    result = typed("drain", "aa11bb", "--wait")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"error: instance aa11bb did not stop: {word}"


def test_drain_wait_gives_up_and_says_that_the_drain_goes_on(
    typed: Typed, twin: OperatorTwin
) -> None:
    twin.keep_open = True
    result = typed("drain", "aa11bb", "--wait", "--wait-timeout", "300ms")
    assert result.exit_code == 1
    assert "has not stopped within 0.3s; the drain goes on" in result.stderr


def test_reinstate(typed: Typed, twin: OperatorTwin) -> None:
    assert typed("reinstate", "aa22").stdout == "instance/aa22cc reinstating (now in_service)\n"
    twin.instances["aa22cc"].state = types.INSTANCE_STATE_FAILED
    refused = typed("reinstate", "aa22cc")
    assert refused.exit_code == 1
    assert refused.stderr == "error: it has failed: nothing is left\n"


def test_a_node_is_cordoned_shown_and_opened_again(typed: Typed, twin: OperatorTwin) -> None:
    node = twin.nodes[0]
    said = typed("cordon", node.agent_id, "--reason", "broken fan")
    assert said.stdout == f"node/{node.agent_id} cordoned: broken fan\n"
    assert f"What runs there ({len(node.instance_ids)}) runs on" in said.stderr
    assert "connected (cordoned)" in typed("get", "nodes").stdout
    assert "cordoned: broken fan" in typed("describe", "node", node.agent_id).stdout
    assert typed("uncordon", node.agent_id).stdout == f"node/{node.agent_id} uncordoned\n"
    assert "cordoned" not in typed("get", "nodes").stdout


def test_single_gpus_are_cordoned_and_opened(typed: Typed, twin: OperatorTwin) -> None:
    name = twin.nodes[0].agent_id
    typed("cordon", name, "--gpu", "1", "--gpu", "2")
    assert list(twin.requests[-1].gpus) == [1, 2]
    assert "connected (2 GPUs cordoned)" in typed("get", "nodes").stdout
    said = typed("uncordon", name, "--gpu", "2").stdout
    assert said == f"node/{name} uncordoned; still GPU 1 cordoned\n"
    assert typed("cordon", name, "--gpu", "-1").exit_code == 2


def test_switch_role(typed: Typed, twin: OperatorTwin) -> None:
    said = typed("switch-role", "aa11", "prefill").stdout
    assert said.startswith("instance/aa11bb switching to prefill (now ")
    assert twin.requests[-1].role == types.ROLE_PREFILL
    assert typed("switch-role", "aa11", "ffn").exit_code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("get", "svc", "none"),
        ("describe", "service", "none"),
        ("explain", "none"),
        ("pause", "none"),
        ("resume", "none"),
        ("scale", "none", "--decode", "1"),
        ("drain", "none"),
        ("reinstate", "none"),
        ("cordon", "none"),
        ("uncordon", "none"),
        ("switch-role", "none", "decode"),
        ("delete", "service", "none", "--yes"),
        ("get", "group", "none"),
        ("describe", "node", "none"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_1(typed: Typed, words: tuple[str, ...]) -> None:
    result = typed(*words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "'none' not found" in result.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "error: decode 9 is above its max 8\n"),
        (grpc.StatusCode.INVALID_ARGUMENT, "error: decode 9 is above its max 8\n"),
        (grpc.StatusCode.PERMISSION_DENIED, "error: not allowed with this certificate: "),
        (grpc.StatusCode.UNAUTHENTICATED, "error: the coordinator does not know you"),
        (grpc.StatusCode.INTERNAL, "error: the coordinator failed (its log says more): "),
        (grpc.StatusCode.UNIMPLEMENTED, "error: this coordinator is too old"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "error: decode 9 is above its max 8\n"),
    ],
)
def test_refusals_are_said_in_words(
    typed: Typed, twin: OperatorTwin, code: grpc.StatusCode, words: str
) -> None:
    twin.refusal = (code, "decode 9 is above its max 8")
    result = typed("scale", "chat", "--decode", "9")
    assert result.exit_code == 1
    assert result.stderr.startswith(words)
