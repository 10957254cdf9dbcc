"""One cluster in the words of several Slurms: the same records from all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from heteroscale_scheduler_adapters.port import UnavailableError
from heteroscale_scheduler_adapters.slurm import gres, parse

SAMPLES = Path(__file__).parent / "samples"
VERSIONS = ("v0.0.38", "v0.0.39", "v0.0.40", "v0.0.41", "v0.0.42")


def _text(name: str) -> str:
    return (SAMPLES / f"{name}.json").read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_are_the_same_in_all_forms(version: str) -> None:
    running, pending, cancelled, failed = parse.jobs(_text(f"jobs-{version}"))
    assert (running.state, running.nodes, running.reason) == ("RUNNING", ("n01", "n02"), "")
    assert [gres.taken(one) for one in running.gres] == [(0, 1), (4, 6)]
    assert (running.started, running.ended) == (1_700_000_010.0, 1_700_003_610.0)
    assert (running.limited, running.exit, running.user) == (True, "", "serving")
    assert gres.total(running.gres_asked) == 2
    assert running.comments == ('heteroscale:{"i": "i-1"}',)
    assert (pending.state, pending.reason) == ("PENDING", "QOSMaxGRESPerUser")
    assert (pending.nodes, pending.limited, pending.ended) == ((), False, 0.0)
    assert (cancelled.state, cancelled.exit) == ("CANCELLED", "signal 15")
    assert (failed.state, failed.exit) == ("FAILED", "exit status 3")


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_nodes_are_the_same_in_all_forms(version: str) -> None:
    old, new = (parse.nodes(_text(f"nodes-{one}")) for one in (VERSIONS[0], version))
    assert new == old
    mixed, drained = new
    assert "DRAIN" in drained.states
    assert (drained.reason, drained.reason_by) == ("fan", "root")
    assert (mixed.features, mixed.partitions) == (("ib", "nvme"), ("gpu",))
    assert (mixed.cpus, mixed.cpus_used, gres.total(mixed.gres_used)) == (62, 16, 4)


def test_groups_of_nodes_are_no_nodes() -> None:
    assert parse.nodes_unless_groups(_text("sinfo-24.11")) is None
    assert parse.nodes_unless_groups(_text("nodes-v0.0.42"))
    with pytest.raises(UnavailableError):
        parse.nodes_unless_groups("no document")
    with pytest.raises(UnavailableError):
        parse.nodes(_text("sinfo-24.11"))


def test_what_a_limit_refuses_is_told_in_its_words() -> None:
    with pytest.raises(UnavailableError, match="accounting/QOS policy"):
        parse.jobs(_text("refused-v0.0.40"))
