"""What people write is read strictly: every complaint has file, line, field, and what would be right."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from heteroscale.documents import (
    DocumentError,
    DocumentModel,
    Duration,
    read_documents,
    read_file,
    write_document,
)
from heteroscale.documents.loader import MAX_DEPTH
from heteroscale.documents.reader import MAX_DOCUMENT_BYTES, MAX_SHOWN


class Pool(DocumentModel):
    size_limit: int = 1
    target: float | dict[str, float] = 1.0
    wait: Duration = 0.0
    names: tuple[str, ...] = ()
    flag: bool = False


class Sample(DocumentModel):
    kind: Literal["Sample"]
    pools: dict[str, Pool] = {}


def read_all(text: str, file: str) -> list[Sample]:
    return [document.parse(Sample) for document in read_documents(text, file)]


def complaints(text: str, file: str = "f.yaml") -> list[str]:
    """Return what is said against a text that should be refused."""
    with pytest.raises(DocumentError) as refused:
        read_all(text, file)
    return [str(violation) for violation in refused.value.violations]


def pool(line: str) -> str:
    return f"kind: Sample\npools:\n  a:\n    {line}\n"


def read_pool(line: str) -> Pool:
    (document,) = read_documents(pool(line))
    return document.parse(Sample).pools["a"]


def test_a_document_becomes_a_value() -> None:
    assert read_pool("{sizeLimit: 3, wait: 1m30s, names: [x, y]}") == Pool(
        size_limit=3, wait=90.0, names=("x", "y")
    )


NO_INTEGER = "Input should be a valid integer, unable to parse string as an integer"
NO_NUMBER = "Input should be a valid number, unable to parse string as a number"


def test_every_complaint_has_its_own_line() -> None:
    text = "kind: Sample\npools:\n  a:\n    sizeLimit: no\n    names:\n      - x\n      - 3\n"
    assert complaints(text) == [
        f"f.yaml:4: pools.a.sizeLimit: {NO_INTEGER} (got 'no')",
        "f.yaml:7: pools.a.names.1: Input should be a valid string (got 3)",
    ]


def test_an_unknown_field_is_refused_and_the_right_one_proposed() -> None:
    assert complaints(pool("sizeLimt: 3")) == [
        "f.yaml:4: pools.a.sizeLimt: unknown field; did you mean `sizeLimit`?"
    ]
    assert complaints(pool("zzz: 3")) == ["f.yaml:4: pools.a.zzz: unknown field"]
    assert complaints(pool("-x: 3")) == ["f.yaml:4: pools.a.-x: unknown field"]


def test_what_is_missing_is_said_where_it_should_stand() -> None:
    assert complaints("pools: {}\n") == ["f.yaml:1: kind: is missing"]
    (document,) = read_documents("other: 1\n", "f.yaml")
    with pytest.raises(DocumentError, match=r"f\.yaml:1: spec: is missing"):
        document.parse(Pool, at=("spec",))


def test_of_a_document_of_another_kind_nothing_else_is_said() -> None:
    text = "kind: Other\nspec: {}\npools: {a: {wait: -1}}\n"
    assert complaints(text) == ["f.yaml:1: kind: Input should be 'Sample' (got 'Other')"]


def test_too_few_entries_are_said_unless_all_that_are_there_are_wrong() -> None:
    class Sized(DocumentModel):
        pools: Annotated[tuple[Pool, ...], Field(min_length=1)]

    def said(text: str) -> list[str]:
        (document,) = read_documents(text, "f.yaml")
        with pytest.raises(DocumentError) as refused:
            document.parse(Sized)
        return [str(violation) for violation in refused.value.violations]

    assert said("pools: []\n") == ["f.yaml:1: pools: has too few entries: at least 1 wanted"]
    (wrong,) = said("pools: [{flag: maybe}]\n")
    assert wrong.startswith("f.yaml:1: pools.0.flag: ")


def test_the_members_of_a_union_complain_once_and_of_the_field() -> None:
    (complaint,) = complaints(pool("target: [1]"))
    place = "f.yaml:4: pools.a.target"
    both = "Input should be a valid number; or Input should be a valid dictionary"
    assert complaint == f"{place}: {both}"
    assert complaints(pool("target: {H20: fast}")) == [f"{place}.H20: {NO_NUMBER} (got 'fast')"]


def test_a_key_given_twice_is_refused_at_its_second_line() -> None:
    assert complaints("kind: Sample\npools:\n  a: {}\n  a: {}\n") == [
        "f.yaml:4: pools.a: is given twice"
    ]
    assert complaints("kind: Sample\nkind: Sample\npools: {a: {flag: true, flag: true}}") == [
        "f.yaml:2: kind: is given twice",
        "f.yaml:3: pools.a.flag: is given twice",
    ]


def test_several_documents_each_keep_their_lines() -> None:
    text = "kind: Sample\n---\n# nothing here\n---\nkind: Sample\npools: {a: {sizeLimit: x}}\n---\n"
    first, second = read_documents(text, "f.yaml")
    assert first.parse(Sample) == Sample(kind="Sample")
    with pytest.raises(DocumentError, match=r"^f\.yaml:6: pools\.a\.sizeLimit: "):
        second.parse(Sample)
    assert read_documents("") == read_documents("---\n---\n# nothing\n") == []


@pytest.mark.parametrize("text", ["hello", "- kind: Sample", "3"])
def test_a_document_is_a_mapping(text: str) -> None:
    assert complaints(text) == ["f.yaml:1: a document is a mapping of fields"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("kind: Sample\npools: [1", 2, "expected ',' or ']'"),
        ("kind: 'Sample", 1, "found unexpected end of stream"),
        ("a: \x00", 1, "special characters are not allowed"),
        ("a: \ud800", 1, "special characters are not allowed"),
        ("a: *nowhere", 1, "found undefined alias"),
    ],
)
def test_what_is_no_yaml_is_said_so(text: str, line: int, says: str) -> None:
    (complaint,) = complaints(text)
    assert complaint.startswith(f"f.yaml:{line}: not YAML: ")
    assert says in complaint


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 3000, "- " * 5000, "a: " + "{a: " * 60])
def test_deep_nesting_does_not_exhaust_the_stack(text: str) -> None:
    assert complaints(text) == ["f.yaml:1: not YAML: nested too deep"]


def test_a_reasonable_depth_is_no_problem() -> None:
    depth = MAX_DEPTH - 2
    (document,) = read_documents("a: " + "{a: " * depth + "1" + "}" * depth)
    assert document.data["a"]["a"]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [" + ",".join("1" * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [bomb(9), "a: &a [*a]", "a: &a {b: *a}"])
def test_aliases_cannot_make_a_small_text_endless(text: str) -> None:
    assert complaints(text)[0].endswith("nested too deep, or too many fields")


def test_aliases_and_merges_that_people_use_work() -> None:
    text = "kind: Sample\npools:\n  a: &a {sizeLimit: 3}\n  b: {<<: *a, flag: true}\n  c: *a\n"
    pools = read_documents(text)[0].parse(Sample).pools
    assert pools["b"] == Pool(size_limit=3, flag=True)
    assert pools["c"] == pools["a"]


def test_a_text_that_is_too_long_is_not_even_read() -> None:
    assert complaints("# " + "x" * MAX_DOCUMENT_BYTES) == [
        f"f.yaml:1: longer than {MAX_DOCUMENT_BYTES} bytes"
    ]
    assert complaints("# " + "ä" * (MAX_DOCUMENT_BYTES // 2))[0].startswith("f.yaml:1: longer")


def test_a_long_value_is_shown_in_part() -> None:
    (complaint,) = complaints(pool(f"sizeLimit: {'x' * 5000}"))
    assert complaint.endswith("…)")
    assert len(complaint) < 3 * MAX_SHOWN


@pytest.mark.parametrize(
    "tagged", ["!!python/object:os.system x", "!!binary x", "!!timestamp x", "!!int x", "!!bool x"]
)
def test_tags_are_not_used(tagged: str) -> None:
    (complaint,) = complaints(pool(f"names: [{tagged}]"))
    assert complaint.startswith("f.yaml:4: pools.a.names.0: tag !!")


@pytest.mark.parametrize("key", ["? [a]\n:", "? {a: 1}\n:", "!!int x:"])
def test_keys_are_plain_text(key: str) -> None:
    assert "f.yaml:1: a key is plain text" in complaints(f"{key} 1")


@pytest.mark.parametrize(
    "plain", ["1:2", "12:30:45", "2024-13-45", "2024-05-01", "on", "no", "Yes", "1_000", "0b1"]
)
def test_what_only_yaml_1_1_takes_for_something_else_is_text(plain: str) -> None:
    assert read_pool(f"names: [{plain}]").names == (plain,)


@pytest.mark.parametrize(
    ("plain", "value"),
    [("1", 1), ("-7", -7), ("0123", 123), ("0x1F", 31), ("0o17", 15), ("089", 89), ("+4", 4)],
)
def test_integers_are_read_as_in_yaml_1_2(plain: str, value: int) -> None:
    assert read_pool(f"sizeLimit: {plain}").size_limit == value


@pytest.mark.parametrize("number", ["1" * 5000, "1e999", ".inf", "-.inf", ".nan"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    for field in ("sizeLimit", "target", "wait"):
        assert complaints(pool(f"{field}: {number}"))[0].startswith(f"f.yaml:4: pools.a.{field}: ")


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff")
    ),
)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), PLAIN, min_size=1))
@example({"text": "0E0", "number": "1e5", "digits": "089", "octal": "0o17", "switch": "on"})
def test_what_is_written_is_read_back(data: dict[str, object]) -> None:
    text = write_document(data)
    (document,) = read_documents(text)
    assert document.data == data
    # Nor does a reader of YAML 1.1 take it for something else.
    assert yaml.safe_load(text) == data


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(DocumentError):
        read_all(text, "f.yaml")


def test_files_are_read_with_their_name(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("kind: Sample\n")
    assert read_file(path)[0].file == str(path)
    path.write_bytes(b"kind: Sample\nname: \xff\n")
    with pytest.raises(DocumentError, match=r"x\.yaml:2: is no UTF-8 text"):
        read_file(path)
    path.write_bytes(b"#" + "ä".encode() * MAX_DOCUMENT_BYTES)
    with pytest.raises(DocumentError, match="longer than"):
        read_file(path)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none.yaml")


def test_a_model_writes_what_it_would_read() -> None:
    sample = Sample(kind="Sample", pools={"a": Pool(wait=90.0, size_limit=2), "b": Pool()})
    text = write_document(sample.document())
    assert read_documents(text)[0].parse(Sample) == sample
    assert sample.document()["pools"]["a"] == {"sizeLimit": 2, "wait": "90s"}
