"""The reader of recordings: formats, order, size, and everything that is refused."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heteroscale_simulator.traffic import opening, stream
from heteroscale_simulator.traffic.formats import AZURE, AzureCsv, Format, MooncakeLines, PlainCsv
from heteroscale_simulator.traffic.opening import BLOCK, head
from heteroscale_simulator.traffic.rows import COLUMNS, Rows, TraceError
from heteroscale_simulator.traffic.stream import WINDOW, Notices, requests, stream_trace

PLAIN = "t_s,input_tokens,output_tokens\n0.5,374,44\n3.25,10,20\n"
SHUFFLED = "model,output_tokens,t_s,user,input_tokens\nm,44,0.5,ann,374\nm,20,3.25,bob,10\n"
AZURE_TEXT = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.5000000+00:00,374,44\n2024-05-10 00:00:03.25+00:00,10,20\n"
)
MOONCAKE = (
    '{"timestamp": 500, "input_length": 374, "output_length": 44, "hash_ids": [0, 1]}\n'
    '{"timestamp": 3250, "input_length": 10, "output_length": 20, "hash_ids": []}\n'
)
PACKED = gzip.compress(PLAIN.encode(), mtime=0)
EXPECTED = [(0.5, 374, 44), (3.25, 10, 20)]


def written(tmp_path: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows_of(path: Path, notices: Notices | None = None) -> list[tuple[float, float, float]]:
    pieces = list(stream_trace(path, notices))
    return [row for piece in pieces for row in triples(piece)]


def triples(rows: Rows) -> list[tuple[float, float, float]]:
    columns = (rows.at.tolist(), rows.input_tokens.tolist(), rows.output_tokens.tolist())
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.rstrip("\n"),
        PLAIN.replace("0.5", "\n0.5"),
        "\ufeff" + PLAIN,
        PLAIN.replace("374", '"374"').replace("t_s", '"t_s"'),
        SHUFFLED,
        SHUFFLED.replace("ann", '"a,n"'),
        MOONCAKE,
        MOONCAKE.replace('"input_length": 10, ', "").replace("[]", '[], "input_length": 10'),
    ],
    ids=[
        "plain",
        "crlf",
        "open-end",
        "blank",
        "bom",
        "quoted",
        "shuffled",
        "comma",
        "mooncake",
        "keys",
    ],
)
def test_every_format_gives_the_same_requests(tmp_path: Path, text: str, packed: bool) -> None:
    data = gzip.compress(text.encode()) if packed else text.encode()
    assert rows_of(written(tmp_path, data)) == EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        AZURE_TEXT,
        AZURE_TEXT.replace("+00:00", ""),
        AZURE_TEXT.replace("+00:00", "Z"),
        AZURE_TEXT.replace("2024-05-10 00", "2024-05-10T02").replace("+00:00", "+02:00"),
    ],
    ids=["utc", "none", "z", "zone"],
)
def test_moments_are_counted_from_the_first(tmp_path: Path, text: str) -> None:
    notices = Notices()
    rows = rows_of(written(tmp_path, text), notices)
    assert [row[0] for row in rows] == pytest.approx([0, 2.75], abs=1e-6)
    assert [row[1:] for row in rows] == [row[1:] for row in EXPECTED]
    assert notices.shift == pytest.approx(1715299200.5)


LENGTHS = st.integers(0, 200_000)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 10**7), LENGTHS, LENGTHS), min_size=1, max_size=40))
def test_bulk_and_line_by_line_read_alike(rows: list[tuple[int, int, int]]) -> None:
    stamps = np.array([at for at, _, _ in rows], dtype="M8[ms]").astype(str)
    cases: list[tuple[Format, list[str]]] = [
        (PlainCsv(("x", *COLUMNS)), [f"name,{at / 1000},{i},{o}" for at, i, o in rows]),
        (
            AzureCsv(AZURE),
            [f"{stamp},{i},{o}" for stamp, (_, i, o) in zip(stamps, rows, strict=True)],
        ),
        (
            MooncakeLines(),
            [
                json.dumps({"timestamp": at, "input_length": i, "output_length": o})
                for at, i, o in rows
            ],
        ),
    ]
    for form, lines in cases:
        block = ("\n".join(lines) + "\n").encode()
        slow = np.array([row[1:] for row in form.one_by_one(block, 1, "x")])
        np.testing.assert_allclose(np.array(form.bulk(block)).T, slow)
        np.testing.assert_allclose(slow, [(at / 1000, i, o) for at, i, o in rows], atol=1e-6)


HEAD = "t_s,input_tokens,output_tokens\n"
STAMPED = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("a,b,c\n1,2,3\n", "csv:1: unknown format.*known: t_s"),
        ("t_s,input,output_tokens\n1,2,3\n", "csv:1: no column input_tokens .found: t_s, input,"),
        ("t_s;input_tokens;output_tokens\n1;2;3\n", "unknown format"),
        (HEAD + "0,1,1\nx,1,1\n", "csv:3: t_s is 'x': not a number of seconds"),
        (HEAD + "0,1,1\n\n\n1,one,1\n", "csv:5: input_tokens is 'one': not a number of tokens"),
        (HEAD + "0,1,1\n1,1\n2,1,1\n", "csv:3: output_tokens is missing .2 of at least 3"),
        (HEAD + "0,1,1\n1,,1\n", "csv:3: input_tokens is ''"),
        (HEAD + "0,1,1\n\n-1,1,1\n", "csv:4: t_s is -1: negative"),
        (HEAD + "0,1,-5\n", "csv:2: output_tokens is -5: negative"),
        (HEAD + "0,1,1\nnan,1,1\n", "csv:3: t_s is nan: not a finite"),
        (HEAD + "0,inf,1\n", "csv:2: input_tokens is inf: not a finite"),
        (HEAD + "0,1,1\n1,10000001,1\n", "csv:3: input_tokens is 1e.07: more than 10,000,000"),
        (HEAD + "0,1,1\n" + HEAD, "csv:3: t_s is 't_s'"),
        (HEAD + "0,1,1\n1700000000,1,1\n", "csv:3: t_s is 19,675.9 days after the start.*milli"),
        (STAMPED + "yesterday,1,1\n", "csv:2: TIMESTAMP is 'yesterday': not a time such as"),
        (STAMPED + "now,1,1\n", "csv:2: TIMESTAMP is 'now'"),
        (STAMPED + "1700000000,1,1\n", "csv:2: TIMESTAMP is '1700000000'"),
        (STAMPED + "2024-13-10 00:00:00,1,1\n", "csv:2: TIMESTAMP is '2024-13-10"),
        ('{"timestamp": 0}\n', "csv:1: input_length is missing"),
        (MOONCAKE + '{"timestamp": 4000, "input\n', "csv:3: not a JSON object on one line"),
        (MOONCAKE + "[1, 2]\n", "csv:3: a list, not a JSON object"),
        (MOONCAKE.replace("374", '"374"'), "csv:1: input_length is '374': not a number"),
        (MOONCAKE.replace("374", "-374"), "csv:1: input_length is -374: negative"),
        (b"\x00\x9f\xff\x80" * 64, "csv:1: not text"),
        (HEAD.encode() + b"0,1,1\n\xff\xfe\x80,1,1\n", "csv:3: not text"),
        (b"\x28\xb5\x2f\xfd..", "a zstd file; give plain text or gzip"),
        (PACKED[:-9], "csv:1: the gzip stream breaks off"),
        (PACKED[:-8] + bytes(8), "gzip stream is damaged"),
        (PACKED + b"garbage", "gzip stream is damaged"),
    ],
)
def test_what_makes_no_sense_is_refused_by_file_line_and_field(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError, match=complaint) as caught:
        rows_of(path)
    assert str(caught.value).startswith(str(path))


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="a folder; give one file"):
        rows_of(tmp_path)
    with pytest.raises(TraceError, match="No such file"):
        rows_of(tmp_path / "none.csv")


def test_a_line_without_an_end_is_refused_before_it_fills_memory() -> None:
    with pytest.raises(TraceError, match="x:1: a line of more than"):
        head(Endless(b"7" * 65536, 1 << 40), "x")


def test_zero_lengths_become_one_and_are_counted(tmp_path: Path) -> None:
    notices = Notices()
    assert rows_of(written(tmp_path, HEAD + "0,0,5\n1,7,0\n2,0.4,0\n"), notices) == [
        (0, 1, 5),
        (1, 7, 1),
        (2, 1, 1),
    ]
    assert notices.zero_lengths == 4
    assert "zero tokens that were read as one token: 4" in notices.sentences()[0]


def test_seconds_since_1970_start_at_zero_and_other_starts_stay(tmp_path: Path) -> None:
    notices = Notices()
    epoch = written(tmp_path, HEAD + "1700000000.5,1,1\n1700000003,1,1\n")
    assert [row[0] for row in rows_of(epoch, notices)] == [0, 2.5]
    assert "moved back by 1,700,000,00" in notices.sentences()[0]
    assert rows_of(written(tmp_path, HEAD + "900,1,1\n"))[0][0] == 900


def test_disorder_within_the_window_is_mended_and_told(tmp_path: Path) -> None:
    times = np.random.default_rng(1).permutation(5000)
    text = HEAD + "".join(f"{at},{at + 1},1\n" for at in times)
    notices = Notices()
    rows = rows_of(written(tmp_path, text), notices)
    assert [row[:2] for row in rows] == [(at, at + 1) for at in range(5000)]
    assert "rows that stood out of order" in notices.sentences()[0]


def test_disorder_beyond_the_window_is_refused_with_its_line(tmp_path: Path) -> None:
    ordered = HEAD + "".join(f"{at},1,1\n" for at in range(1000, 1000 + 7 * WINDOW))
    path = written(tmp_path, ordered + "999,1,1\n")
    with pytest.raises(TraceError, match=f"csv:{7 * WINDOW + 2}: t_s lies .* sort the file"):
        rows_of(path)


@pytest.mark.parametrize("packed", [False, True])
def test_progress_ends_at_one(tmp_path: Path, packed: bool) -> None:
    data = PLAIN.encode()
    told: list[float] = []
    list(
        stream_trace(written(tmp_path, gzip.compress(data) if packed else data), None, told.append)
    )
    assert told == sorted(told)
    assert told[-1] == 1.0


class Endless:
    """A file that is made while it is read: a head, then one piece again and again."""

    def __init__(self, piece: bytes, size: int, first: bytes = b"") -> None:
        self._piece, self._left, self._ready = piece, size, first

    def read(self, size: int, /) -> bytes:
        while len(self._ready) < size and self._left > 0:
            self._ready += self._piece
            self._left -= len(self._piece)
        data, self._ready = self._ready[:size], self._ready[size:]
        return data


def test_memory_does_not_grow_with_the_file() -> None:
    size = 200 << 20
    row = b"7.5,1000,100," + b"x" * 986 + b"\n"
    file = Endless(row * 1000, size, first=HEAD.strip().encode() + b",note\n")
    notices = Notices()
    tracemalloc.start()
    try:
        count = sum(len(piece) for piece in requests(head(file, "x"), notices))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == notices.rows >= size // len(row)
    assert peak < 64 << 20
    assert size > 10 * BLOCK


def test_pieces_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BLOCK", 1000)
    monkeypatch.setattr(stream, "WINDOW", 50)
    path = written(tmp_path, HEAD + "".join(f"{at},{at + 1},1\n" for at in range(3000)))
    pieces = list(stream_trace(path))
    assert max(len(piece) for piece in pieces) < 400
    assert [row for piece in pieces for row in triples(piece)] == [
        (at, at + 1, 1) for at in range(3000)
    ]
    assert np.concatenate([piece.line for piece in pieces]).tolist() == list(range(2, 3002))
