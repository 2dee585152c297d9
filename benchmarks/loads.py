"""Archives for benchmarks: a day of the synthetic market, archived and compacted by the recorder itself."""

from __future__ import annotations

from pathlib import Path

from load_server import frames as market

from recorder.archive.layout import make_layout, open_layout
from recorder.disk import make_folder
from recorder.protocol.days import DayBoundary
from recorder.protocol.marks import encode_mark
from recorder.protocol.segment import Header, code_of, encode_batch, encode_end, encode_header
from recorder.recording import compact_finished, flush

DATE = "2026-11-20"
BEGIN = 1_795_132_800_000_000  # 2026-11-20 00:00 UTC
SESSION = "20261120T000000aaaa"
DISTINCT = 100_000
BATCH = 10_000
SEGMENT = 1_000_000


def make_day(data: Path, *, frames: int, contracts: int) -> None:
    """Write a day's frames as segments, evenly over the day, then archive and compact them."""
    write_day(data, frames=frames, payloads=market(DISTINCT, contracts))
    layout = open_layout(data)
    flush(layout, tell=lambda _news: None)
    compact_finished(layout, before="2100-01-01", done=lambda _rows: None)


def write_day(data: Path, *, frames: int, payloads: list[bytes], segment: int = SEGMENT) -> None:
    """Write a day's frames as segments, evenly over the day: the payloads, again and again."""
    layout = make_layout(data, DayBoundary("00:00 UTC"))
    folder = layout.journal("main")
    make_folder(folder, below=layout.root)
    step = 86_000_000_000 // (frames + 1)
    for first in range(0, frames + 1, segment):
        last = min(first + segment, frames + 1)
        with (folder / f"{SESSION}-{first:012d}.seg").open("wb") as file:
            file.write(encode_header(Header(recorder="main", session=SESSION, first_seq=first, date=DATE)))
            for begin in range(first, last, BATCH):
                seqs = range(begin, min(begin + BATCH, last))
                data_of = [payloads[(seq - 1) % len(payloads)] if seq else _mark() for seq in seqs]
                codes = [code_of("in" if seq else "mark", "text") for seq in seqs]
                file.write(encode_batch(begin, [BEGIN + seq * step for seq in seqs], [1] * len(seqs), codes, data_of))
            file.write(encode_end(last - 1))


def _mark() -> bytes:
    return encode_mark("session_started", predecessor=None)
