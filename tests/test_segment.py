"""The journal's format gives back what was written, and of a damaged segment the part before the damage."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.protocol.segment import (
    CODES,
    IN_BINARY,
    IN_TEXT,
    MAGIC,
    SUFFIX,
    Bad,
    FrameBatch,
    Header,
    Scan,
    code_of,
    concat,
    encode_batch,
    encode_end,
    encode_header,
    kind_and_op,
    parse_segment_name,
    segment_name,
    tail,
)
from recorder.types import KINDS, OPS, Frame

HEADER = Header(recorder="main", session="20261120T120000aaaa", first_seq=7, date="2026-11-20")
INT64 = st.integers(-(2**63), 2**63 - 1)


class Given(NamedTuple):
    """One frame to be written: its time, connection, code and bytes."""

    ts: int
    conn: int
    code: int
    data: bytes


GIVEN = st.builds(
    Given, INT64, st.integers(-(2**31), 2**31 - 1), st.sampled_from(sorted(CODES.values())), st.binary(max_size=40)
)
BATCHES = st.lists(st.lists(GIVEN, min_size=1, max_size=6), max_size=5)
SMALL = [
    [Given(1, 1, IN_TEXT, b'{"topic":"smd+1"}'), Given(2, 1, IN_BINARY, b"")],
    [Given(3, 2, code_of("mark", "text"), b"\x00" * 9)],
]


def encoded(first_seq: int, frames: Sequence[Given]) -> bytes:
    """Write one batch."""
    return encode_batch(first_seq, *zip(*frames, strict=True)) if frames else encode_batch(first_seq, [], [], [], [])


def records(batches: Sequence[Sequence[Given]]) -> list[bytes]:
    """Write batches that follow one another."""
    written, seq = [], HEADER.first_seq
    for batch in batches:
        written.append(encoded(seq, batch))
        seq += len(batch)
    return written


def segment(batches: Sequence[Sequence[Given]]) -> bytes:
    """Write a finished segment."""
    last = HEADER.first_seq + sum(map(len, batches)) - 1
    return encode_header(HEADER) + b"".join(records(batches)) + encode_end(max(last, 0))


def expected(batches: Sequence[Sequence[Given]]) -> list[Frame]:
    """Give the frames that were written."""
    flat = [frame for batch in batches for frame in batch]
    return [
        Frame(HEADER.recorder, HEADER.session, seq, one.ts, one.conn, *kind_and_op(one.code), one.data)
        for seq, one in enumerate(flat, HEADER.first_seq)
    ]


def frames_in(scan: Scan) -> list[Frame]:
    """Give the frames that a scan finds."""
    return [frame for batch in scan for frame in batch.frames(HEADER.recorder, HEADER.session)]


def in_columns(batch: FrameBatch) -> dict[str, Any]:
    """Give a batch as something that can be compared."""
    return {
        "first_seq": batch.first_seq,
        "last_seq": batch.last_seq,
        "ts_recv": batch.ts_recv.tolist(),
        "conn": batch.conn.tolist(),
        "code": batch.code.tolist(),
        "offsets": batch.offsets.tolist(),
        "payloads": batch.payloads(),
    }


def scanned(data: bytes) -> FrameBatch:
    """Read back one batch."""
    (batch,) = Scan(data, whole=False)
    return batch


@given(BATCHES)
def test_a_segment_gives_back_its_frames(batches: list[list[Given]]) -> None:
    """Any bytes of any kind, in batches of any size."""
    scan = Scan(segment(batches))

    assert expected(batches) == frames_in(scan)
    assert (HEADER, True, None) == (scan.header, scan.finished, scan.bad)
    assert len(segment(batches)) == scan.end


@given(
    st.builds(Header, recorder=st.text(), session=st.text(), first_seq=st.integers(0, 2**62), date=st.text(max_size=10))
)
def test_a_header_is_read_as_it_was_written(header: Header) -> None:
    """Any name, in any script."""
    scan = Scan(encode_header(header))

    assert [] == list(scan)
    assert (header, False, None) == (scan.header, scan.finished, scan.bad)


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_a_frame_may_have_any_size(size: int) -> None:
    """From nothing to an answer of three megabytes, with neighbours on both sides."""
    batch = [Given(1, 1, IN_TEXT, b"a"), Given(2, 1, IN_TEXT, b"\xfe" * size), Given(3, 1, IN_TEXT, b"z")]

    assert [b"a", b"\xfe" * size, b"z"] == scanned(encoded(0, batch)).payloads()


def test_a_batch_without_frames_is_read_too() -> None:
    """Nobody writes one, but it would be no damage."""
    assert (0, []) == (len(scanned(encoded(5, []))), scanned(encoded(5, [])).payloads())


def test_every_kind_and_opcode_has_a_code_of_its_own() -> None:
    """A code is given back as what it stands for."""
    pairs = [(kind, op) for kind in KINDS for op in OPS]

    assert pairs == [kind_and_op(code_of(kind, op)) for kind, op in pairs]
    assert len(pairs) == len(set(CODES.values()))
    assert {f"{kind} {op}" for kind, op in pairs} == set(CODES)


@given(BATCHES, st.data())
def test_a_segment_is_read_in_pieces(batches: list[list[Given]], data: st.DataObject) -> None:
    """A reader of a growing segment goes on where the last complete record ended."""
    whole, frames, done, finished = segment(batches), [], 0, False
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    for cut in (*cuts, len(whole)):
        scan = Scan(whole[done:cut], whole=done == 0)
        frames += frames_in(scan)
        done += scan.end
        finished = finished or scan.finished

    assert expected(batches) == frames
    assert (len(whole), True) == (done, finished)


@pytest.mark.parametrize("batches", [[], SMALL[:1], SMALL])
def test_a_segment_cut_at_any_byte_keeps_the_complete_prefix(batches: list[list[Given]]) -> None:
    """What is left is a prefix of whole batches, and what follows it is said to be bad."""
    whole = segment(batches)
    edges = [len(encode_header(HEADER))]
    for record in records(batches):
        edges.append(edges[-1] + len(record))
    for cut in range(len(whole)):
        scan = Scan(whole[:cut])
        kept = sum(edge <= cut for edge in edges[1:])

        assert expected(batches[:kept]) == frames_in(scan)
        assert (cut in (len(MAGIC), *edges)) == (scan.bad is None)
        assert not scan.finished


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_keeps_the_prefix(bit: int) -> None:
    """Whatever bit it is, no frame comes out changed, and the damage shows."""
    whole = segment(SMALL)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        scan = Scan(bytes(damaged))
        found = frames_in(scan)

        assert expected(SMALL)[: len(found)] == found
        assert scan.bad is not None
        assert scan.bad.offset <= place


@given(BATCHES.filter(bool), st.data())
def test_overwritten_bytes_keep_the_prefix(batches: list[list[Given]], data: st.DataObject) -> None:
    """Any bytes in place of any others."""
    whole = segment(batches)
    place = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=20))
    scan = Scan(whole[:place] + noise + whole[place + len(noise) :])
    found = frames_in(scan)

    assert expected(batches)[: len(found)] == found


@given(st.binary(max_size=200))
def test_noise_gives_no_frames_and_no_error(noise: bytes) -> None:
    """Neither at the beginning nor after a good header."""
    assert [] == frames_in(Scan(noise))
    assert [] == frames_in(Scan(encode_header(HEADER) + noise))


def zeroed_tail(whole: bytes) -> bytes:
    """Let the file end in pages that were never written."""
    return whole + bytes(4096)


def zeroed_middle(whole: bytes) -> bytes:
    """Let a page inside a record be lost."""
    at = whole.index(b"smd+1")
    return whole[:at] + bytes(4) + whole[at + 4 :]


def zeroed_record(whole: bytes) -> bytes:
    """Let a record be lost, whole."""
    at = len(encode_header(HEADER))
    return whole[:at] + bytes(len(whole) - at)


def longer(whole: bytes) -> bytes:
    """Let a record say that it is longer than the file."""
    at = len(encode_header(HEADER))
    return whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :]


def shorter(whole: bytes) -> bytes:
    """Let a record say that it is shorter than it is."""
    at = len(encode_header(HEADER))
    return whole[:at] + b"\x05\x00\x00\x00" + whole[at + 4 :]


def of_unknown_type(whole: bytes) -> bytes:
    """Let a sound record be of a type that only a later recorder knows."""
    at = len(encode_header(HEADER))
    return whole[:at] + sound(b"X later") + whole[at:]


def sound(payload: bytes) -> bytes:
    """Write a record as the format says it: length, checksum of length and payload, payload."""
    length = len(payload).to_bytes(4, "little")
    return length + zlib.crc32(length + payload).to_bytes(4, "little") + payload


def after_the_end(whole: bytes) -> bytes:
    """Let a batch follow the end record."""
    return whole + encoded(99, SMALL[0])


START = len(encode_header(HEADER))


@pytest.mark.parametrize(
    ("damage", "kept", "bad"),
    [
        (lambda _whole: b"", 0, Bad(0, "an incomplete beginning")),
        (lambda whole: whole[:7], 0, Bad(0, "an incomplete beginning")),
        (lambda whole: b"PAR1" + whole[4:], 0, Bad(0, "something that is no journal segment")),
        (zeroed_tail, 3, Bad(len(segment(SMALL)), "an empty record")),
        (zeroed_middle, 0, Bad(START, "a record whose checksum does not match")),
        (zeroed_record, 0, Bad(START, "an empty record")),
        (longer, 0, Bad(START, "an incomplete record")),
        (shorter, 0, Bad(START, "a record whose checksum does not match")),
        (of_unknown_type, 0, Bad(START, "a record of unknown type b'X'")),
        (after_the_end, 3, Bad(len(segment(SMALL)), "a record after the end")),
    ],
)
def test_damage_is_named_with_its_place(damage: Callable[[bytes], bytes], kept: int, bad: Bad) -> None:
    """What was good before it is kept."""
    scan = Scan(damage(segment(SMALL)))

    assert expected(SMALL)[:kept] == frames_in(scan)
    assert bad == scan.bad
    assert bad.offset == scan.end


def test_another_format_version_is_refused_by_both_numbers() -> None:
    """The user learns which is too old, the file or the recorder."""
    scan = Scan(MAGIC[:-1] + b"\x02" + segment(SMALL)[len(MAGIC) :])

    assert [] == list(scan)
    assert scan.bad == Bad(0, "a journal of format 2, while this recorder reads format 1,")


def test_a_segment_without_its_end_is_not_finished() -> None:
    """So ends the last segment of a session that died; nothing of it is bad."""
    scan = Scan(encode_header(HEADER) + b"".join(records(SMALL)))

    assert expected(SMALL) == frames_in(scan)
    assert (False, None) == (scan.finished, scan.bad)


@given(st.lists(st.lists(GIVEN, min_size=1, max_size=5), min_size=1, max_size=4))
def test_joined_batches_are_as_one_that_was_written_whole(batches: list[list[Given]]) -> None:
    """Columns, offsets and payloads are the same."""
    apart = list(Scan(b"".join(records(batches)), whole=False))
    whole = scanned(encoded(HEADER.first_seq, [frame for batch in batches for frame in batch]))

    assert in_columns(whole) == in_columns(concat(apart))


@given(st.lists(GIVEN, min_size=1, max_size=8), st.data())
def test_a_tail_is_as_a_batch_written_from_there(frames: list[Given], data: st.DataObject) -> None:
    """One that begins before the batch is the whole batch."""
    batch = scanned(encoded(7, frames))
    first = data.draw(st.integers(0, 7 + len(frames) - 1))
    skipped = max(first - 7, 0)

    assert in_columns(scanned(encoded(7 + skipped, frames[skipped:]))) == in_columns(tail(batch, first))


@given(st.lists(GIVEN, min_size=2, max_size=8), st.data())
def test_head_and_tail_join_to_the_whole(frames: list[Given], data: st.DataObject) -> None:
    """Nothing is lost or doubled where a batch is divided."""
    batch = scanned(encoded(0, frames))
    at = data.draw(st.integers(1, len(frames) - 1))
    head = scanned(encoded(0, frames[:at]))

    assert in_columns(batch) == in_columns(concat([head, tail(batch, at)]))


def test_batches_with_a_hole_between_them_do_not_join() -> None:
    """A journal has no holes, so this would be a mistake of ours."""
    apart = [scanned(encoded(0, SMALL[0])), scanned(encoded(3, SMALL[1]))]

    with pytest.raises(AssertionError, match="do not follow"):
        concat(apart)


SESSION_NAMES = st.text("0123456789abcdefT-", min_size=1, max_size=20)
SEQS = st.integers(0, 10**12 - 1)


@given(SESSION_NAMES, SEQS)
def test_a_segment_name_is_read_as_it_was_written(session: str, first_seq: int) -> None:
    """Also where the session's name holds a dash."""
    assert (session, first_seq) == parse_segment_name(segment_name(session, first_seq))


@given(SEQS, SEQS)
def test_segment_names_sort_in_the_order_of_frames(one: int, other: int) -> None:
    """A folder's listing is in order."""
    names = [segment_name("20261120T120000aaaa", seq) for seq in (one, other)]

    assert (one < other) == (names[0] < names[1])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "lock",
        "main.seg",
        f"-000000000001{SUFFIX}",
        f"s-one{SUFFIX}",
        f"s-{SUFFIX}",
        "s-1.seg.tmp",
        "s-1",
        "s-1.SEG",
    ],
)
def test_other_names_are_no_segments(name: str) -> None:
    """A lock file or a leftover is passed over."""
    assert parse_segment_name(name) is None
