"""The oversight of a capture: status file, page, health and metrics of one that really runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import AAPL, IBM, NOON, Script, eventually, gateway_with, in_loop, quote, recording, settings_for
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from test_verdict import HOUR, MINUTE, SECOND, gap, status_of

from recorder.capture.diary import Diary
from recorder.capture.history import History
from recorder.capture.metrics import metrics_text
from recorder.capture.status import GapStatus
from recorder.capture.status_document import judgement_document, status_document
from recorder.capture.status_file import NAME, UNFINISHED, read_status, write_status
from recorder.capture.verdict import problems
from recorder.errors import ArchiveError, DiskError, RecorderError
from recorder.protocol.ledger import Ledger
from recorder.protocol.marks import encode_mark

DOCS = Path(__file__).parent.parent / "docs" / "cli.md"
PAGE = Path(__file__).parent.parent / "recorder" / "capture" / "page.html"


# ------------------------------------------------------------------ the status file


def test_a_status_file_is_private_and_gives_back_what_was_written(tmp_path: Path) -> None:
    """Account ids are personal, and so is what one trades."""
    write_status(tmp_path, status_of())

    assert status_of() == read_status(tmp_path)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert not (tmp_path / UNFINISHED).exists()


def test_a_missing_status_file_is_none_and_a_strange_one_an_error(tmp_path: Path) -> None:
    """It is not taken for a recorder that is well."""
    assert read_status(tmp_path) is None
    (tmp_path / NAME).write_bytes(b'{"recorder": 1}')
    with pytest.raises(ArchiveError, match="is not what this recorder writes"):
        read_status(tmp_path)


def test_a_status_file_that_cannot_be_written_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """It is the oversight's to say so, once."""
    with pytest.raises(DiskError, match=r"status\.json\.tmp cannot be written"):
        write_status(tmp_path / "missing", status_of())


# ------------------------------------------------------------------ what is remembered


def test_a_diary_follows_connections_and_logins() -> None:
    """As the marks in the journal tell them."""
    diary = Diary()
    seen = []
    for event in ("session_started", "connected", "logged_in", "disconnected", "connected"):
        diary.follow(encode_mark(event))
        seen.append((diary.connected, diary.logged_in, diary.connections))

    assert seen == [(False, False, 0), (True, False, 1), (True, True, 1), (False, False, 1), (True, False, 2)]


def test_a_diary_lists_open_and_closed_gaps_of_the_last_day() -> None:
    """Those of earlier sessions included; what is older than a day is left to the archive."""
    old, recent = gap(-90_000, -89_000), gap(-3_000, -2_000, topic="orders")
    diary, ledger = Diary(), Ledger()
    diary.recall([old, recent])
    for mark in (
        ledger.open("market_data", start=NOON - MINUTE, cause="stale", evidence="x"),
        ledger.open("pnl", start=NOON - MINUTE, cause="stale", evidence="x"),
        ledger.close("pnl", end=NOON),
    ):
        assert mark is not None
        diary.follow(mark)

    assert diary.gaps(NOON) == (
        recent,
        GapStatus("pnl", None, NOON - MINUTE, NOON, "stale"),
        GapStatus("market_data", None, NOON - MINUTE, None, "stale"),
    )


def test_a_diary_without_a_login_is_not_logged_in_though_connected() -> None:
    """The gap says that the login went while the connection stayed."""
    diary, ledger = Diary(), Ledger()
    opened = ledger.open("market_data", start=NOON, cause="not_authenticated", evidence="x")
    for mark in (encode_mark("connected"), encode_mark("logged_in"), opened):
        assert mark is not None
        diary.follow(mark)

    assert (diary.connected, diary.logged_in) == (True, False)


@given(st.lists(st.integers(-5, 90), max_size=60), st.integers(0, 50))
def test_a_history_keeps_every_frame_in_some_minute(pauses: Sequence[int], frames: int) -> None:
    """Minutes rise, are whole, and hold the slowest look; also when the clock steps back."""
    history, now, received = History(), NOON, 0
    for pause in pauses:
        now += pause * SECOND
        received += frames
        history.add(status_of(at=now, received=received, lag=float(pause % 7)))
    points = history.points()

    assert all(one.minute < other.minute for one, other in pairwise(points))
    assert all(point.minute % MINUTE == 0 and point.rate >= 0 for point in points)
    assert max((point.lag for point in points), default=0.0) == max((pause % 7 for pause in pauses), default=0)


def test_a_history_has_no_point_for_a_minute_without_a_look() -> None:
    """Nothing is filled in."""
    history = History()
    for minute in (0, 1, 5):
        history.add(status_of(at=NOON + minute * MINUTE, received=600 * minute))

    assert [(point.minute - NOON) // MINUTE for point in history.points()] == [0, 1, 5]


def test_a_history_is_bounded_by_a_day() -> None:
    """However long a capture runs."""
    history = History()
    for minute in range(2000):
        history.add(status_of(at=NOON + minute * MINUTE, received=0))

    assert len(history.points()) == 1441


# ------------------------------------------------------------------ documents and metrics


def documented() -> set[str]:
    """Give the keys that docs/cli.md names for a recorder."""
    section = DOCS.read_text("utf-8").split("## recorder status")[1].split("\n## ")[0]
    return set(re.findall(r"`([a-z_]+)`", section))


def keys(value: Any) -> set[str]:
    """Give every key of a document, at whatever depth."""
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys(inner)}
    return {key for inner in value for key in keys(inner)} if isinstance(value, list) else set()


def test_every_key_of_the_document_is_documented() -> None:
    """Programs read what people wrote down."""
    status = status_of(gaps=(gap(-60),), lag=3.0)
    document = status_document(status, now=NOON) | judgement_document(problems(status, NOON), "x")

    assert keys(document) - documented() == set()


def test_metrics_are_what_prometheus_reads_and_name_no_account() -> None:
    """By topic where it says so; gaps by cause, expected silence apart."""
    closed = GapStatus("market_data", None, NOON - HOUR, NOON, "market_closed")
    status = status_of(gaps=(gap(-60), gap(-600, -500, conid=AAPL), closed), problem="DU1234567 is away")
    text = metrics_text(status, now=NOON).decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    main = ("recorder", "main")

    assert samples["recorder_healthy", main] == 0.0
    assert samples["recorder_frames_total", main] == 1000.0
    assert samples["recorder_rows_total", main, ("topic", "market_data")] == 1000.0
    assert samples["recorder_gaps", ("cause", "stale"), main, ("topic", "market_data")] == 2.0
    assert samples["recorder_open_gaps", ("cause", "stale"), main, ("topic", "market_data")] == 1.0
    assert "market_closed" not in text
    assert "DU1234567" not in text


def test_the_page_needs_nothing_from_elsewhere_and_writes_no_html() -> None:
    """No other host; texts are set as texts, so that no broker's message becomes markup."""
    page = PAGE.read_text("utf-8")

    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", page) == []


# ------------------------------------------------------------------ a capture that runs


async def get(url: str) -> tuple[int, str]:
    """Ask for a page."""
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status, await answer.text()


@in_loop
async def test_a_running_capture_serves_page_health_metrics_and_status(tmp_path: Path) -> None:
    """What came through its socket shows everywhere; no account id and no token does."""
    feed = Script()
    async with gateway_with(feed, session="0123456789abcdefsecret") as gateway:
        settings = settings_for(gateway, tmp_path / "data", conid=(str(AAPL), str(IBM)), http="127.0.0.1:0")
        async with recording(settings) as running:
            for number in range(5):
                feed.push(f"smd+{AAPL}", quote(number))
            feed.push("spl", b'{"topic":"spl","args":{"DU1234567.Core":{"rowType":1,"dpl":1.5}}}')
            await eventually(lambda: running.capture.status().rows.get("pnl"))
            base = f"http://127.0.0.1:{running.capture._oversight.web.port}"
            answers = {
                path: await get(base + path) for path in ("/", "/healthz", "/metrics", "/status.json", "/history.json")
            }
            missing = await get(f"{base}/etc/passwd")

    status = json.loads(answers["/status.json"][1])
    topics = {one["topic"]: one for one in status["topics"]}
    assert [code for code, _ in answers.values()] == [200] * 5
    assert missing[0] == 404
    assert (status["state"], status["connected"], status["logged_in"]) == ("recording", True, True)
    assert (topics["market_data"]["rows"], topics["pnl"]["rows"]) == (5, 1)
    assert topics["market_data"]["state"] == "flowing"
    assert [(one["conid"], one["state"]) for one in status["contracts"]] == [(AAPL, "flowing"), (IBM, "asked")]
    assert answers["/"][1] == PAGE.read_text("utf-8")
    assert "recorder_frames_total" in answers["/metrics"][1]
    everything = "".join(text for _, text in answers.values())
    assert [secret for secret in ("DU1234", "0123456789abcdef") if secret in everything] == []


@in_loop
async def test_health_turns_bad_with_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and the reason once it is longer away than what mends itself; the gap is listed, open, by topic."""
    monkeypatch.setattr("recorder.capture.verdict.GRACE", 0.2)
    async with gateway_with(Script()) as gateway:
        running = recording(settings_for(gateway, tmp_path / "data", http="127.0.0.1:0"))
        capture = await running.__aenter__()
        base = f"http://127.0.0.1:{capture.capture._oversight.web.port}"
        well = await get(f"{base}/healthz")
    try:
        await eventually(lambda: capture.capture.status().open_gaps)
        code, said = await get(f"{base}/healthz")
        while code == 200:  # until it has lasted long enough
            await asyncio.sleep(0.05)
            code, said = await get(f"{base}/healthz")
        status = json.loads((await get(f"{base}/status.json"))[1])
    finally:
        await running.__aexit__(None, None, None)

    assert well[0] == 200
    assert code == 503
    assert json.loads(said)["problems"][0]["what"] == "disconnected"
    assert json.loads(said)["verdict"].startswith("Attention: no connection to the gateway for ")
    assert {(one["topic"], one["cause"]) for one in status["gaps"] if one["end"] is None} >= {
        ("market_data", "disconnected")
    }


@in_loop
async def test_an_address_that_is_taken_ends_the_capture_with_a_reason(tmp_path: Path) -> None:
    """A page that is not there must not be found out in the morning; what was begun is wound down."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with gateway_with(Script()) as gateway, server:
        with pytest.raises(RecorderError, match=f"http: 127.0.0.1:{port} cannot be listened on"):
            async with recording(settings_for(gateway, tmp_path / "data", http=f"127.0.0.1:{port}")):
                pass

    status = read_status(tmp_path / "data" / "journal" / "main")
    assert status is not None
    assert status.state == "failed"


@in_loop
async def test_the_status_file_is_kept_up_to_date_and_says_how_it_ended(tmp_path: Path) -> None:
    """Each two seconds while it runs; afterwards why it stopped, with everything flushed."""
    feed, folder = Script(), tmp_path / "data" / "journal" / "main"
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, tmp_path / "data")) as running:
        feed.push(f"smd+{AAPL}", quote(1))
        await eventually(lambda: (said := read_status(folder)) and said.rows.get("market_data") == 1)
        live = read_status(folder)
        await running.stop()

    last = read_status(folder)
    assert live is not None
    assert last is not None
    assert (live.state, live.pid, live.space is not None) == ("recording", os.getpid(), True)
    assert abs(live.at - time.time_ns() // 1000) < 60 * SECOND
    assert (last.state, last.ended, last.unflushed_frames) == ("stopped", "the test is over", 0)
