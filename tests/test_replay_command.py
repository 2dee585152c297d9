"""`recorder replay`: what was recorded, as JSON lines, in order, verbatim, at a pace."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from typing import Any

import pytest
from conftest import (
    AAPL,
    DAY,
    IBM,
    NOON,
    SESSION,
    Given,
    archive,
    command,
    environment,
    order,
    quote,
    quotes,
    write_session,
)

from recorder.archive.layout import Layout
from recorder.cli import main as cli
from recorder.cli.instants import format_instant
from recorder.library import Archive
from recorder.types import KINDS

LATER = "20261121T120000bbbb"
MARK = Given(NOON - 1000, b'{"event":"session_started","predecessor":null}', "mark")
OUT = Given(NOON + 10, b'smd+265598+{"fields":["84"]}', "out")
REST = Given(
    NOON + 20, b'GET /v1/api/iserver/account/orders\n{"orders":[{"acct":"DU1","conid":8314,"orderId":7}]}', "rest"
)
NOT_TEXT = Given(NOON + 30, b'\xff{"topic":"smd+8314"}', op="binary")
NO_TOPIC = Given(NOON + 40, b'{"message":"waiting for session"}')
DELTA = Given(NOON + 50, order(7, status="Filled"))
MIXED = [MARK, *quotes(1), OUT, REST, NOT_TEXT, NO_TOPIC, DELTA]


def replay(layout: Layout, *options: str) -> int:
    """Run the command on an archive."""
    return cli.run(["replay", "--data", str(layout.root), *options])


def lines(layout: Layout, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    """Read what it prints."""
    capsys.readouterr()
    assert replay(layout, *options) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def seqs(layout: Layout, capsys: pytest.CaptureFixture[str], *options: str) -> list[int]:
    """Read the sequence numbers of what it prints."""
    return [line["seq"] for line in lines(layout, capsys, *options)]


@pytest.mark.parametrize("place", ["parquet", "journal"])
def test_a_line_is_a_row_without_what_is_absent(place: str, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Topic, order columns, contract, values, and what no column takes; the same from Parquet and from the journal."""
    frame = quote(0, {"84": "189.5", "88": "1,300", "99999": "new"}, conid=AAPL)
    write_session(layout, [Given(NOON + 7, frame)])
    if place == "parquet":
        archive(layout)

    assert replay(layout) == 0
    assert capsys.readouterr().out == (
        '{"topic":"market_data","ts_recv":"2026-11-20T12:00:00.000007Z","ts_event":"2026-11-20T12:00:00.000000Z",'
        f'"session":"{SESSION}","seq":0,"item":0,"conid":265598,"wire_topic":"smd+265598","bid_price":189.5,'
        '"bid_size":1300.0,"extra":{"99999":"new"}}\n'
    )


def test_rows_of_all_topics_come_in_the_order_of_frames(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row has its own topic's columns, in that table's order."""
    write_session(layout, [*quotes(1), DELTA, Given(NOON + 60, b'{"topic":"sts","args":{"authenticated":true}}')])
    archive(layout)
    write_session(layout, quotes(1, start=NOON + DAY), session=LATER)

    found = lines(layout, capsys)
    assert [line["topic"] for line in found] == ["market_data", "orders", "status", "market_data"]
    assert list(found[1]) == [
        "topic",
        "ts_recv",
        "session",
        "seq",
        "item",
        "conid",
        "source",
        "acct",
        "order_id",
        "status",
    ]
    assert found[2]["authenticated"] is True
    assert [line["seq"] for line in found] == [0, 1, 2, 0]


def test_times_of_any_column_are_text(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """ISO 8601, UTC, six decimals, so that lines sort as text."""
    write_session(layout, [Given(NOON, order(7, conid=IBM, lastExecutionTime_r=1594229751000))])

    (row,) = lines(layout, capsys)
    assert row["last_execution_time_r"] == "2020-07-08T17:35:51.000000Z"


def test_an_instant_past_the_year_9999_stays_a_number() -> None:
    """It has no text, and a broker's nonsense ends nothing."""
    assert format_instant(-1) == "1969-12-31T23:59:59.999999Z"
    assert format_instant(10**18) == 10**18


def test_topics_contracts_and_times_narrow_the_rows(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Start is inclusive, end exclusive; several values are comma-separated or repeated."""
    write_session(layout, [*quotes(2), *quotes(2, first=2, conid=IBM), Given(NOON + 4000, order(7, conid=IBM))])

    assert seqs(layout, capsys, "--topic", "market_data") == [0, 1, 2, 3]
    assert seqs(layout, capsys, "--topic", "market_data", "--topic", "orders") == [0, 1, 2, 3, 4]
    assert seqs(layout, capsys, "--conid", f"{IBM}") == [2, 3, 4]
    assert seqs(layout, capsys, "--conid", f"{IBM},{AAPL}", "--topic", "orders,pnl") == [4]
    assert seqs(layout, capsys, "--start", "2026-11-20T12:00:00.001", "--end", "2026-11-20T12:00:00.003") == [1, 2]
    assert seqs(layout, capsys, "--end", "2026-11-20") == []


@pytest.mark.parametrize("place", ["parquet", "journal"])
def test_raw_gives_every_frame_verbatim(place: str, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """All kinds, in order; text where the bytes are UTF-8, base64 where they are not."""
    write_session(layout, MIXED)
    if place == "parquet":
        archive(layout)

    found = lines(layout, capsys, "--raw")
    data = [line["data"].encode() if "data" in line else base64.b64decode(line["data_base64"]) for line in found]
    assert data == [given.data for given in MIXED]
    assert [(line["kind"], line["op"]) for line in found] == [(given.kind, given.op) for given in MIXED]
    assert [("data_base64" in line) for line in found] == [given is NOT_TEXT for given in MIXED]
    assert found[0] == {
        "recorder": "main",
        "session": SESSION,
        "seq": 0,
        "ts_recv": "2026-11-20T11:59:59.999000Z",
        "conn": 0,
        "kind": "mark",
        "op": "text",
        "data": MARK.data.decode(),
    }


def test_raw_ends_with_the_digests_of_the_received_frames(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, as `recorder capture` prints them; of the topics that were asked for."""
    write_session(layout, [*MIXED, *quotes(3)])
    archive(layout)
    digests = Archive(layout.root).digests()
    told = {
        name: f"  {name:<16} {digest.count:>12,} frames  {digest.hexdigest()}\n" for name, digest in digests.items()
    }

    assert replay(layout, "--raw") == 0
    assert capsys.readouterr().err == told["market_data"] + told["orders"]
    assert replay(layout, "--raw", "--topic", "orders") == 0
    assert capsys.readouterr().err == told["orders"]
    assert replay(layout, "--raw", "--conid", str(AAPL)) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["parquet", "journal"])
def test_raw_frames_are_chosen_by_kind_topic_and_contract(
    place: str, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """A topic has the frames that it claims; a contract those that its rows came from, an order's delta included."""
    write_session(layout, MIXED)
    if place == "parquet":
        archive(layout)

    assert seqs(layout, capsys, "--raw", "--kind", "out,mark") == [0, 2]
    assert seqs(layout, capsys, "--raw", "--kind", "in") == [1, 4, 5, 6]
    assert seqs(layout, capsys, "--raw", "--topic", "orders") == [3, 6]
    assert seqs(layout, capsys, "--raw", "--topic", "orders", "--kind", "in") == [6]
    assert seqs(layout, capsys, "--raw", "--conid", str(IBM)) == [3, 6]
    assert seqs(layout, capsys, "--raw", "--conid", f"{AAPL},{IBM}", "--topic", "market_data") == [1]
    assert seqs(layout, capsys, "--raw", "--conid", "1") == []


def test_raw_gives_a_frame_of_several_rows_once(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Two orders of a contract in one frame, across sessions and recorders."""
    both = b'{"topic":"sor","args":[{"acct":"DU1","orderId":1,"conid":8314},{"acct":"DU1","orderId":2,"conid":8314}]}'
    write_session(layout, [Given(NOON, both), *quotes(2)])
    archive(layout)
    write_session(layout, [*quotes(1), Given(NOON + 1, both)], session=LATER)
    write_session(layout, [Given(NOON - 1, both)], recorder="other", session=LATER)

    found = lines(layout, capsys, "--raw", "--conid", str(IBM))
    assert [(line["recorder"], line["session"], line["seq"]) for line in found] == [
        ("other", LATER, 0),
        ("main", SESSION, 0),
        ("main", LATER, 1),
    ]


def test_speed_paces_the_lines(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Three tenths of a second at twice the pace take 0.15 s at the least."""
    write_session(layout, quotes(4, step=100_000))

    begin = time.monotonic()
    assert seqs(layout, capsys, "--speed", "2") == [0, 1, 2, 3]
    assert time.monotonic() - begin >= 0.15
    assert seqs(layout, capsys, "--speed", "max") == [0, 1, 2, 3]


def test_a_paced_line_is_written_when_it_is_due(layout: Layout) -> None:
    """A reader at the other end of a pipe has the first line long before the second."""
    write_session(layout, quotes(2, step=600_000_000))
    arguments = command("replay", "--data", str(layout.root), "--speed", "1")
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.terminate()

    assert first["seq"] == 0


@pytest.mark.parametrize("options", [[], ["--raw"], ["--speed", "1000000"]])
def test_a_pipe_that_closes_early_ends_it_quietly(options: list[str], layout: Layout) -> None:
    """`recorder replay | head -1`: exit code 0, nothing on standard error."""
    write_session(layout, quotes(20_000))
    arguments = command("replay", "--data", str(layout.root), *options)
    with subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        err = process.stderr.read()

    assert (first["seq"], process.returncode, err) == (0, 0, b"")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--topic", "nix"], "recorder: unknown topic 'nix'\ntry: use one of: "),
        (["--conid", "AAPL"], "recorder: --conid: 'AAPL' is not a contract id\ntry: "),
        (["--start", "noon"], "recorder: --start: 'noon' is not a time\ntry: "),
        (["--speed", "fast"], "recorder: --speed: 'fast' is no speed\ntry: write max, 1, or a number such as 20\n"),
        (["--speed", "0"], "recorder: --speed: '0' is no speed\n"),
        (["--speed", "nan"], "recorder: --speed: 'nan' is no speed\n"),
        (
            ["--raw", "--kind", "inn"],
            "recorder: --kind: 'inn' is no kind of frame\ntry: use one of: in, out",
        ),
        (["--kind", "in"], "recorder: --kind chooses frames\ntry: add --raw, or choose rows with --topic\n"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    options: list[str], told: str, layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line and a hint, nothing on standard output."""
    assert replay(layout, *options) == 2
    out, err = capsys.readouterr()
    assert (out, err[: len(told)], err.count("\n")) == ("", told, 2)


def test_the_options_name_every_kind_of_frame() -> None:
    """The help of `--kind` lists them."""
    ran = subprocess.run(command("replay", "--help"), env=environment(), capture_output=True, text=True, check=True)

    assert ", ".join(KINDS) in " ".join(ran.stdout.replace("│", " ").split())


def test_an_archive_without_frames_prints_nothing(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """No rows, no frames, no digests, and no fault."""
    assert [replay(layout), replay(layout, "--raw")] == [0, 0]
    assert capsys.readouterr() == ("", "")
