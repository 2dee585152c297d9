"""`recorder report`: every figure of a date's quality is counted by hand here, and the limits decide the exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import AAPL, IBM, NOON, Given, archive, at, order, quotes, write_session
from hypothesis import given
from hypothesis import strategies as st

from recorder.archive.layout import Layout
from recorder.cli import main as cli
from recorder.protocol.marks import encode_mark
from recorder.research.delays import Delays
from recorder.research.spans import common, length, union

SECOND = 1_000_000
MINUTE = 60 * SECOND
STRETCHES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def market(ts: int, late: int = 20_000, *, conid: int = AAPL, **cells: str) -> Given:
    """Make a frame of market data that the broker sent `late` microseconds before it came."""
    row = {"topic": f"smd+{conid}", "conid": conid, "_updated": (ts - late) // 1000}
    return Given(ts, json.dumps(row | {key.strip("_"): value for key, value in cells.items()}).encode())


def heartbeat(ts: int, ahead: int) -> Given:
    """Make a heartbeat of a broker whose clock is ahead (microseconds)."""
    return Given(ts, json.dumps({"topic": "system", "hb": (ts + ahead) // 1000}).encode())


def gap(start: int, end: int, conid: int | None = None, cause: str = "disconnected") -> Given:
    """Make the mark of a gap in market data that is over."""
    data = encode_mark("gap_closed", of="market_data", contract=conid, start=start, end=end, cause=cause, evidence="x")
    return Given(end, data, "mark")


def begin(ts: int = NOON) -> Given:
    """Make the first mark of a session."""
    return Given(ts, encode_mark("session_started", predecessor=None), "mark")


def report(layout: Layout, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, Any]]:
    """Run the command; give its exit code and its document."""
    code = cli.run(["report", "--data", str(layout.root), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def stream(document: dict[str, Any], conid: int = AAPL, topic: str = "market_data") -> dict[str, Any]:
    """Find a stream's figures."""
    (found,) = [one for one in document["streams"] if (one["topic"], one["conid"]) == (topic, conid)]
    return dict(found)


@pytest.fixture(params=["journal", "parquet"])
def stored(request: pytest.FixtureRequest) -> str:
    """Say where what was recorded is."""
    return str(request.param)


def store(layout: Layout, frames: Iterable[Given], stored: str) -> None:
    """Write a session, and archive it or not."""
    write_session(layout, list(frames))
    if stored == "parquet":
        archive(layout)


def test_a_books_states_are_counted_as_they_stand(
    layout: Layout, stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Deltas are carried forward, a side without a size is none, and each stream has its own book."""
    rows = [
        market(NOON, _84="10", _88="1", _86="11", _85="1"),
        market(NOON + 1_000, _84="11"),  # locked
        market(NOON + 2_000, _84="12"),  # crossed
        market(NOON + 3_000, _31="11"),  # a trade; the quote is not told again
        market(NOON + 4_000, _88="0"),  # no bid
        market(NOON + 5_000, conid=IBM, _84="5"),  # one side only
    ]
    store(layout, [begin(), *rows], stored)
    _, document = report(layout, capsys)
    one, other = stream(document), stream(document, IBM)

    assert (5, 3, 1, 1) == (one["rows"], one["quotes"], one["crossed"], one["locked"])
    assert (1, 0, 0, 0) == (other["rows"], other["quotes"], other["crossed"], other["locked"])


def test_repetition_order_and_latency_are_told_by_the_brokers_time(
    layout: Layout, stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row that says the same at the same time is repeated; another one at that time is not."""
    rows = [
        market(NOON, 0, _84="10"),
        market(NOON + 10_000, 10_000, _84="10"),  # the same, again
        market(NOON + 20_000, 20_000, _84="11"),
        market(NOON + 30_000, 40_000, _84="11"),  # sent before
    ]
    store(layout, [begin(), *rows], stored)
    _, document = report(layout, capsys)
    one = stream(document)

    assert (1, 1) == (one["repeated"], one["backwards"])
    assert 4 == one["latency"]["count"]
    assert (0.0, 0.04) == (one["latency"]["low"], one["latency"]["high"])
    assert 0.01 == pytest.approx(one["latency"]["p50"], rel=0.02)


def test_what_field_6509_says_holds_until_it_speaks_again(
    layout: Layout, stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows are counted by it, and too many that are not live are a problem."""
    letters = ["RpB", None, "DPB", None, None, "ZB"]
    rows = []
    for number, said in enumerate(letters):
        key, text = ("_84", str(number)) if said is None else ("_6509", said)
        rows.append(market(NOON + number * 1_000, 20_000, conid=AAPL, **{key: text}))
    store(layout, [begin(), *rows], stored)
    code, document = report(layout, capsys)

    assert {"RpB": 2, "DPB": 3, "ZB": 1} == stream(document)["availability"]
    assert 4 == stream(document)["not_live"]
    assert (1, ["delayed"]) == (code, [problem["what"] for problem in document["problems"]])
    assert 0 == report(layout, capsys, "--max-delayed", "1")[0]


def test_coverage_is_what_no_gap_touches(layout: Layout, stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a whole topic, and of a contract alone; overlaps count once, and information is no gap."""
    rows = [market(NOON + n * MINUTE, conid=conid, _84=f"{n}") for n in range(101) for conid in (AAPL, IBM)]
    marks = [
        gap(NOON + 10 * MINUTE, NOON + 14 * MINUTE),
        gap(NOON + 12 * MINUTE, NOON + 20 * MINUTE, IBM, "stale"),
        gap(NOON + 50 * MINUTE, NOON + 60 * MINUTE, cause="market_closed"),
    ]
    store(layout, sorted([begin(), *rows, *marks], key=lambda one: one.ts), stored)
    code, document = report(layout, capsys, "--stale-after", "5m")

    assert 0.96 == pytest.approx(stream(document)["coverage"])
    assert 0.90 == pytest.approx(stream(document, IBM)["coverage"])
    assert [["disconnected", False, 1, 240.0, 240.0], ["market_closed", True, 1, 600.0, 600.0]] == [
        list(cause.values()) for cause in stream(document)["gaps"]
    ]
    assert (1, ["coverage", "gap"]) == (code, [problem["what"] for problem in document["problems"]])
    assert [[IBM, AAPL], [IBM]] == [sorted(problem["conids"]) for problem in document["problems"]]
    assert 0 == report(layout, capsys, "--min-coverage", "0.9", "--max-gap", "8m")[0]


def test_silence_counts_where_no_gap_explains_it(
    layout: Layout, stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between rows, and behind the last one while others went on: a stream that died quietly."""
    own = [market(NOON + second * SECOND, _84=f"{second}") for second in (0, 30, 130, 330)]
    others = [market(NOON + second * SECOND, conid=IBM, _84="1") for second in range(0, 601, 10)]
    marks = [gap(NOON + 140 * SECOND, NOON + 320 * SECOND, AAPL)]  # explains the third stretch but for 20 s
    store(layout, sorted([begin(), *own, *others, *marks], key=lambda one: one.ts), stored)
    _, document = report(layout, capsys)

    assert (2, 270.0) == (stream(document)["silences"], stream(document)["longest_silence"])
    assert (0, 0.0) == (stream(document, IBM)["silences"], stream(document, IBM)["longest_silence"])


def test_with_a_calendar_the_exchanges_hours_count(
    layout: Layout, stored: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """New York trades from 14:30 to 21:00 UTC in winter; who came at 17:45 missed half, whatever the ledger says."""
    start = at("2026-11-20 17:45:00")
    store(layout, [begin(start), *(market(start + n * MINUTE, _84=f"{n}") for n in range(200))], stored)
    _, document = report(layout, capsys, "--calendar", "XNYS")

    assert [["2026-11-20T14:30:00.000000Z", "2026-11-20T21:00:00.000000Z"]] == document["hours"]
    assert 195 / 390 == pytest.approx(stream(document)["coverage"], abs=1e-6)
    assert {"coverage"} == {problem["what"] for problem in document["problems"]}


def test_clocks_are_compared_by_heartbeats(layout: Layout, stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A recorder that is three seconds behind says so."""
    store(layout, [begin(), *(heartbeat(NOON + n * 10 * SECOND, 3 * SECOND) for n in range(5))], stored)
    code, document = report(layout, capsys)

    assert -3.0 == pytest.approx(document["clock"]["p50"], rel=0.01)
    assert (1, ["clock"]) == (code, [problem["what"] for problem in document["problems"]])


def test_what_is_archived_in_pieces_is_judged_as_one(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Flushes in between change no figure: neither of books nor of repetition nor of silences."""
    rows = [market(NOON + n * 45 * SECOND, n % 2 * 45 * SECOND, _84=f"{n // 2}", _86="1") for n in range(40)]
    write_session(layout, [begin(), *rows], rotations=range(3, 41, 4))
    _, before = report(layout, capsys)
    archive(layout)
    _, after = report(layout, capsys)

    def comparable(document: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**one, "bytes": 0} for one in document["streams"]]

    assert comparable(before) == comparable(after)
    assert stream(after)["repeated"] > 0
    assert stream(before)["bytes"] == 0 < stream(after)["bytes"]


def test_the_json_has_the_documented_keys(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Each key of the document, of a stream and of a delay stands in the docs."""
    store(layout, [begin(), *quotes(3), heartbeat(NOON, 0), Given(NOON, order(1, conid=AAPL))], "parquet")
    _, document = report(layout, capsys)
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text("utf-8")
    section = page[page.index("## recorder report") : page.index("## recorder fields")]
    keys = {*document, *document["limits"], *stream(document), *document["clock"]}

    assert {key for key in keys if f"`{key}`" not in section} == set()


def test_the_page_holds_all_it_shows_and_asks_nobody(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file, private to the user, with the document in it and no address to load anything from."""
    store(layout, [begin(), *quotes(3)], "parquet")
    page = tmp_path / "report.html"
    _, document = report(layout, capsys, "--html", str(page))
    text = page.read_text("utf-8")
    said = re.search(r"^const D = (.*);$", text, re.MULTILINE)

    assert said
    assert document == json.loads(said[1])
    assert 0o600 == page.stat().st_mode & 0o777
    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"https?://[^\"' ]+", text))
    assert [] == [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_date_of_which_there_is_nothing_is_an_error(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """No figures are better than figures of nothing."""
    store(layout, [begin(), *quotes(3)], "parquet")

    assert 2 == cli.run(["report", "--data", str(layout.root), "--date", "2026-11-19"])
    assert "nothing was recorded on 2026-11-19" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ("--date", "20 November"),
        ("--min-coverage", "99"),
        ("--max-gap", "5"),
        ("--max-delayed", "much"),
        ("--calendar", "nowhere"),
    ],
)
def test_a_wrong_option_is_named(layout: Layout, options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """With what it should be."""
    store(layout, [begin(), *quotes(3)], "parquet")

    assert 2 == cli.run(["report", "--data", str(layout.root), *options])
    assert options[0].lstrip("-") in capsys.readouterr().err


@given(STRETCHES, STRETCHES)
def test_stretches_are_sets_of_moments(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    """What is joined, common and long is what the moments say."""
    these, those = ({t for start, end in stretches for t in range(start, end)} for stretches in (some, others))

    assert these == {t for start, end in union(some) for t in range(start, end)}
    assert these & those == {t for start, end in common(some, others) for t in range(start, end)}
    assert len(these) == length(some)


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1), st.lists(st.integers(0, 5)), st.floats(0, 1))
def test_shares_of_delays_are_right_to_a_hundredth(delays: list[int], more: list[int], share: float) -> None:
    """However they came, and as exact at the ends as they were."""
    first, second = Delays(), Delays()
    first.add(np.array(delays, np.int64))
    second.add(np.array(more, np.int64))
    first.merge(second)
    everything = sorted([*delays, *more])
    exact = everything[max(1, int(np.ceil(share * len(everything)))) - 1]

    assert (everything[0], everything[-1]) == (first.low, first.high)
    assert exact == pytest.approx(first.at(share), rel=0.01, abs=1)
