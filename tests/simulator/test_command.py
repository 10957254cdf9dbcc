"""The command line of ``heteroscale simulate`` around a world that is made by hand."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from heteroscale_simulator import command
from heteroscale_simulator.command.arguments import POLICIES, Options, UsageError, options, parser
from heteroscale_simulator.command.progress import Bar, Lines, Silent, Watch, watch
from heteroscale_simulator.policies.registry import KNOWN
from heteroscale_simulator.report.export import TABLES
from heteroscale_simulator.report.study import Study
from tests.simulator import studies

LEAST = ["--service", "s.yaml", "--fleet", "f.yaml", "--trace", "t.csv"]


def asked(*words: str) -> Options:
    return options(parser(KNOWN).parse_args([*LEAST, *words]), KNOWN)


@dataclass
class World:
    """Plays nothing, and remembers what it was asked for."""

    error: BaseException | None = None
    options: list[Options] = field(default_factory=list)
    commands: list[Sequence[str]] = field(default_factory=list)

    def __call__(self, wish: Options, words: Sequence[str], told: Watch) -> Study:
        self.options.append(wish)
        self.commands.append(words)
        told.stage("joint")(30, 60)
        if self.error is not None:
            raise self.error
        return studies.study(wish.policies)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def execute(world: World, *words: str, terminal: bool = False) -> Done:
    out, err = StringIO(), StringIO()
    console = Console(file=err, force_terminal=terminal, width=120)
    code = command.execute([*LEAST, *words], world, out, console)
    return Done(code, out.getvalue(), err.getvalue())


# ---- the grammar ---------------------------------------------------------------------------


def test_what_is_left_out_has_a_default() -> None:
    wish = asked()
    assert wish.policies == ["joint"]
    assert (wish.rate_scales, wish.initial, wish.seed) == ([1.0], [None], 0)
    assert (wish.start, wish.duration, wish.classes, wish.cache_hit) == (0.0, None, 8, 0.0)


def test_lists_are_given_once_or_once_a_service() -> None:
    two = ("--service", "b.yaml", "--trace", "b.csv")
    assert asked(*two, "--rate-scale", "5").rate_scales == [5.0, 5.0]
    assert asked(*two, "--rate-scale", "5", "--rate-scale", "0.5").rate_scales == [5.0, 0.5]
    assert asked(*two, "--initial", "1,2").initial == [(1, 2), (1, 2)]
    with pytest.raises(UsageError, match="once for each of the 2 services"):
        asked(*two, "--rate-scale", "5", "--rate-scale", "1", "--rate-scale", "1")


def test_times_are_written_as_in_documents() -> None:
    assert asked("--start", "6h", "--duration", "1h30m").duration == 5400
    assert asked("--duration", "90").duration == 90
    assert asked("--start", "6h").start == 21600


def test_policies_keep_the_order_asked() -> None:
    assert asked("--policy", "hpa, joint").policies == ["hpa", "joint"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--policy", "best"], "known are joint, hpa"),
        (["--policy", "hpa,hpa"], "name each policy once"),
        (["--policy", ","], "names none"),
        (["--rate-scale", "0"], "must be above 0"),
        (["--rate-scale", "-1"], "must be above 0"),
        (["--rate-scale", "nan"], "must be above 0"),
        (["--rate-scale", "inf"], "at most 1e\\+09"),
        (["--rate-scale", "1e300"], "at most"),
        (["--initial", "4"], "write prefill,decode"),
        (["--initial", "4,x"], "write prefill,decode"),
        (["--initial", "0,1"], "at least one instance"),
        (["--duration", "0"], "at least one second"),
        (["--duration", "soon"], "is no duration"),
        (["--start=-1s"], "is no duration"),
        (["--cache-hit", "1"], "a share"),
        (["--cache-hit", "nan"], "a share"),
        (["--classes", "0"], "1 or more"),
        (["--seed", "-1"], "0 or more"),
        (["--service", "other.yaml"], "each service needs one trace"),
    ],
)
def test_wrong_usage_is_told_with_what_would_be_right(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked(*words)
    done = execute(World(), *words)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert done.out == ""


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in KNOWN:
        assert f"  {name:<20}{POLICIES[name]}\n" in text
    assert "exit status: 0 done, 2 wrong usage" in text
    assert "examples:" in text


# ---- what comes out ------------------------------------------------------------------------


def test_the_table_goes_to_standard_output_and_nothing_to_standard_error() -> None:
    done = execute(World(), "--policy", "hpa,joint")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()[1:3]] == ["hpa", "joint"]
    assert done.err == ""


def test_json_on_standard_output_is_alone_there() -> None:
    done = execute(World(), "--json", "-")
    assert [run["policy"] for run in json.loads(done.out)["runs"]] == ["joint"]
    assert "POLICY" in done.err


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    done = execute(World(), "--quiet", "--progress", "--json", str(tmp_path / "out.json"))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert json.loads((tmp_path / "out.json").read_text())["runs"]


def test_everything_asked_for_is_written(tmp_path: Path) -> None:
    page, folder = tmp_path / "out.html", tmp_path / "tables"
    done = execute(World(), "--report", str(page), "--export", str(folder))
    assert done.code == 0
    assert page.read_text().startswith("<!doctype html>")
    assert {path.name for path in folder.iterdir()} == {*TABLES, "README.txt"}
    assert str(page) in done.out


def test_the_command_line_is_remembered_word_by_word() -> None:
    world = World()
    execute(world, "--seed", "3")
    assert world.commands == [["heteroscale", "simulate", *LEAST, "--seed", "3"]]


@pytest.mark.parametrize(
    ("option", "path", "message"),
    [
        ("--json", ".", "is a folder"),
        ("--json", "none/out.json", "make it first"),
        ("--report", "none/out.html", "make it first"),
        ("--report", "-", "name a file"),
        ("--export", "file", "is a file"),
        ("--export", "none/out", "make it first"),
        ("--json", "/proc/out.json", "cannot be written"),
        ("--export", "/proc/out", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, path: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    world = World()
    done = execute(world, option, path)
    assert done.code == 2
    assert message in done.err
    assert world.options == []


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = execute(World(), "--json", "/dev/full", "--report", str(tmp_path / "out.html"))
    assert done.code == 2
    assert done.err == "error: No space left on device: nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_who_leaves_ends_it_quietly() -> None:
    class Gone(StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    err = StringIO()
    line = [*LEAST, "--json", "-"]
    assert command.execute(line, World(), Gone(), Console(file=err)) == 141
    assert err.getvalue() == ""


def test_json_and_report_in_one_file_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    done = execute(World(), "--json", path, "--report", path)
    assert done.code == 2
    assert "name two files" in done.err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted: nothing was written\n"),
        (ValueError("t.csv:3: output_tokens is negative"), 2, "error: t.csv:3: output_tokens"),
    ],
)
def test_a_run_that_ends_early_writes_nothing(
    tmp_path: Path, error: BaseException, code: int, told: str
) -> None:
    (tmp_path / "out.json").write_text("of yesterday")
    done = execute(
        World(error), "--json", str(tmp_path / "out.json"), "--export", str(tmp_path / "tables")
    )
    assert done.code == code
    assert done.err.startswith(told)
    assert done.out == ""
    assert (tmp_path / "out.json").read_text() == "of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


# ---- progress ------------------------------------------------------------------------------


def test_lines_come_every_ten_seconds() -> None:
    out, now = StringIO(), [0.0]
    told = Lines(out, lambda: now[0])
    tell = told.stage("joint")
    for now[0], done in ((4.0, 10), (9.9, 20), (10.0, 30), (15.0, 40), (20.5, 60)):
        tell(done, 60)
    assert out.getvalue().splitlines() == ["joint …", "joint: 50%", "joint: 100%"]


def test_who_is_told() -> None:
    terminal = Console(file=StringIO(), force_terminal=True)
    plain = Console(file=StringIO(), force_terminal=False)
    assert isinstance(watch(quiet=False, wanted=False, console=terminal), Bar)
    assert isinstance(watch(quiet=True, wanted=True, console=terminal), Silent)
    assert isinstance(watch(quiet=False, wanted=True, console=plain), Lines)
    assert isinstance(watch(quiet=False, wanted=False, console=plain), Silent)


def test_a_bar_shows_the_stage_and_leaves_the_terminal_usable_after_an_error() -> None:
    done = execute(World(KeyboardInterrupt()), terminal=True)
    assert "joint" in done.err
    assert done.err.count("\x1b[?25h") == done.err.count("\x1b[?25l") > 0
