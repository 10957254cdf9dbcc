"""What was found is written into the service file; every other character stays."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

import pytest

from heteroscale.documents import read_documents
from heteroscale.words import Role
from heteroscale_coordinator.core.spec import ServiceDocument
from heteroscale_workbench.pressure.document import Found, rounded, with_found, write_found
from heteroscale_workbench.pressure.values import PressureError

FOUND = Found("9:7", {Role.PREFILL: {"": 12345.6}, Role.DECODE: {"H20": 1234.5, "L20": 400.0}})
EXAMPLE = Path(__file__).parents[3] / "examples" / "service-chat.yaml"
BARE = """\
apiVersion: heteroscale/v1
kind: Service
metadata: {name: bare}
spec:
  roles:
    prefill: {template: p}  # one line
    decode:
      # The template.
      template: d
"""


def spec_of(text: str) -> ServiceDocument:
    return read_documents(text)[-1].parse(ServiceDocument)


def test_only_the_three_values_change() -> None:
    before = EXAMPLE.read_text()
    after = with_found(before, "chat", FOUND)
    changes = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    removed = [one[2:].strip() for one in changes if one.startswith("- ")]
    added = [one[2:].strip() for one in changes if one.startswith("+ ")]
    assert [one.split(":")[0] for one in removed] == ["target", "target", "ratio"]
    assert added == ["target: 12300", "target: {H20: 1230, L20: 400}", "ratio: 9:7"]
    spec = spec_of(after).spec
    assert spec.ratio.min == spec.ratio.max == pytest.approx(9 / 7)
    assert spec.roles[Role.DECODE].target_of("L20") == 400


def test_what_was_left_out_is_put_in() -> None:
    after = with_found(BARE, "bare", FOUND)
    assert "prefill: {target: 12300, template: p}  # one line" in after
    assert "# The template.\n      target: {H20: 1230, L20: 400}\n      template: d" in after
    spec = spec_of(after).spec
    assert spec.roles[Role.PREFILL].target == 12300


def test_factors_are_written_where_there_are_any_and_old_ones_go() -> None:
    given = {Role.DECODE: {2206: 0.654, 789: 1.3}}
    first = with_found(BARE, "bare", replace(FOUND, factors=given))
    assert "targetByPrompt: {789: 1.3, 2206: 0.654}" in first
    assert first.count("targetByPrompt") == 1
    assert spec_of(first).spec.roles[Role.DECODE].target_by_prompt == {789: 1.3, 2206: 0.654}
    again = with_found(first, "bare", FOUND)
    assert spec_of(again).spec.roles[Role.DECODE].target_by_prompt == {}


def test_a_remark_stands_behind_the_ratio_and_gives_way_to_the_next() -> None:
    text = BARE + "  slo: {ttft: 1s}\n"
    first = with_found(text, "bare", replace(FOUND, remark="nine of ten"))
    assert "  ratio: 9:7  # profile: nine of ten\n" in first
    second = with_found(first, "bare", replace(FOUND, ratio="1:1", remark="all but two"))
    assert second == first.replace("9:7", "1:1").replace("nine of ten", "all but two")
    assert with_found(second, "bare", FOUND) == with_found(text, "bare", FOUND)


def test_a_remark_does_not_break_what_stands_on_its_line() -> None:
    own = BARE + "  ratio: 1:1  # ours\n"
    assert "  ratio: 9:7  # ours\n" in with_found(own, "bare", replace(FOUND, remark="new"))
    roles = "{prefill: {template: p}, decode: {template: d}}"
    flow = f"kind: Service\nmetadata: {{name: a}}\nspec: {{roles: {roles}, ratio: 1:1}}\n"
    after = with_found(flow, "a", replace(FOUND, remark="new"))
    assert after.endswith("ratio: 9:7}\n")


def test_blocks_are_replaced_and_the_comments_behind_them_stay() -> None:
    text = (
        BARE
        + "  ratio:\n    min: 0.2\n    max: 0.4  # a band\n\n  # The promise.\n  slo: {ttft: 1s}\n"
    )
    after = with_found(text, "bare", FOUND)
    assert "  ratio: 9:7  # a band\n\n  # The promise.\n  slo: {ttft: 1s}\n" in after


def test_the_right_document_of_several_is_changed() -> None:
    other = BARE.replace("bare", "other")
    after = with_found(f"{other}---\n{BARE}", "bare", FOUND)
    assert after.startswith(f"{other}---\n")
    assert with_found(after, "bare", FOUND) == after


def test_a_service_that_is_not_there_is_said() -> None:
    with pytest.raises(PressureError, match="no service 'gone'"):
        with_found(BARE, "gone", FOUND)


def test_the_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(BARE)
    write_found(path, "bare", FOUND)
    assert spec_of(path.read_text()).spec.ratio.min == pytest.approx(9 / 7)
    assert [one.name for one in tmp_path.iterdir()] == ["s.yaml"]
    with pytest.raises(PressureError, match=r"nowhere\.yaml: No such file"):
        write_found(tmp_path / "nowhere.yaml", "bare", FOUND)


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1230"), (0.01234, "0.0123"), (999.9, "1000")]
)
def test_three_digits_are_kept(value: float, text: str) -> None:
    assert rounded(value) == text
