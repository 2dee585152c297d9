"""Every topic recorded from the emulated gateway, with its accounts and contracts looked up by REST."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import AAPL, IBM, QUICK, Script, eventually, gateway_with, in_loop, payloads, recording, settings_for

from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader
from recorder.capture.contracts import conids_of
from recorder.capture.plan import plan_streams
from recorder.capture.settings import CaptureSettings
from recorder.errors import UsageError
from recorder.library import Archive
from recorder.protocol.topics import Topics, load_topics
from recorder.replay.feed import Instrument
from recorder.replay.gateway import serve
from recorder.replay.synthetic import SyntheticFeed
from recorder.research.contracts import contract_symbols, with_symbols

EVERY = ("market_data", "orders", "pnl", "trades", "depth", "bars", "account_summary", "account_ledger")


@in_loop
async def test_every_topic_is_recorded_end_to_end(tmp_path: Path) -> None:
    """Asked for as the broker wants it, and archived with its columns filled."""
    data = tmp_path / "data"
    feed = SyntheticFeed(contracts=12, rate=50.0, order_every=0.2)
    contracts = tuple(str(conid) for conid in list(feed.instruments)[:7])
    async with serve(feed, rules=QUICK) as gateway:
        settings = settings_for(
            gateway, data, conid=contracts, depth_conid=(contracts[1],), topic=EVERY, bars_bar="5min"
        )
        async with recording(settings) as capture:
            await eventually(lambda: len(_bars(data)) == len(contracts))
            await eventually(lambda: any(b'"commission"' in frame for frame in payloads(data)))
            outcome = await capture.stop()
    archive = Archive(data)

    assert set(EVERY) <= set(outcome.digests)
    assert {int(conid) for conid in contracts} == set(archive.load("bars")["conid"])
    assert {24} == set(archive.load("bars").groupby("conid").size())
    assert {"DU1000001"} == set(archive.load("depth")["account"])
    assert [int(contracts[1])] == list(archive.load("depth")["conid"].unique())
    assert {"LedgerListBASE", "LedgerListEUR"} == set(archive.load("account_ledger")["key"])
    assert "DU1000001" in set(archive.load("account_summary")["value"].dropna())
    sent = payloads(data, kind="out")
    assert [b"ubd+DU1000001", b"usd+DU1000001+{}"] == [
        text for text in (b"ubd+DU1000001", b"usd+DU1000001+{}") if text in sent
    ]
    assert len(contracts) == len([text for text in sent if text.startswith(b"umh+")])
    trades = archive.table("trades", revisions=True)
    ids = archive.table("trades")["execution_id"].to_pylist()
    assert sorted(set(trades["execution_id"].to_pylist())) == sorted(ids)
    assert len(ids) < trades.num_rows


def _bars(data: Path) -> list[bytes]:
    return [frame for frame in payloads(data) if b'"topic":"smh+' in frame]


@in_loop
async def test_the_contracts_of_a_capture_are_looked_up_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the broker tells is a table; what it does not know is a warning and nothing else."""
    data = tmp_path / "data"
    chosen = (str(AAPL), f"{IBM}@NYSE", "999")
    async with (
        gateway_with(Script()) as gateway,
        recording(settings_for(gateway, data, conid=chosen)) as capture,
    ):
        await eventually(lambda: _answers(data))
        await gateway.hub.drop_clients()
        await eventually(lambda: payloads(data, kind="out").count(b"sor+{}") == 2 and capture.state == "recording")
    contracts = Archive(data).load("contracts")

    assert {AAPL: "AAPL", IBM: "IBM"} == dict(zip(contracts["conid"], contracts["symbol"], strict=True))
    assert {"USD"} == set(contracts["currency"])
    assert 1 == len(_answers(data))
    assert ["the gateway tells nothing about 999"] == [
        record.message for record in caplog.records if "tells nothing" in record.message
    ]


def _answers(data: Path) -> list[bytes]:
    return [frame for frame in payloads(data, kind="rest") if frame.startswith(b"GET /trsrv/secdef")]


@in_loop
async def test_symbols_are_joined_to_rows(tmp_path: Path) -> None:
    """A contract that was not looked up has none; a symbol that a row has of its own stays."""
    data = tmp_path / "data"
    async with gateway_with(Script()) as gateway, recording(settings_for(gateway, data)):
        await eventually(lambda: _answers(data))
    symbols = contract_symbols(Reader(open_layout(data), load_topics()))
    table = pa.table({"conid": [AAPL, IBM], "bid_price": [1.0, 2.0]})
    own = pa.table({"conid": [AAPL, IBM, AAPL], "symbol": pa.array([None, "IBM", "APL"], pa.string())})

    assert {AAPL: "AAPL"} == symbols
    assert ["conid", "symbol", "bid_price"] == with_symbols(table, symbols).column_names
    assert ["AAPL", None] == with_symbols(table, symbols)["symbol"].to_pylist()
    assert ["AAPL", "IBM", "APL"] == with_symbols(own, symbols)["symbol"].to_pylist()
    assert [None, None] == with_symbols(table, {})["symbol"].to_pylist()


@in_loop
async def test_a_symbol_is_a_contract(tmp_path: Path) -> None:
    """It is recorded beside the contracts that were named, each once."""
    data = tmp_path / "data"
    async with gateway_with(Script()) as gateway:
        settings = settings_for(gateway, data, conid=(str(IBM),), symbol=("aapl", "IBM:NASDAQ"))
        async with recording(settings):
            await eventually(lambda: f"smd+{AAPL}" in gateway.hub.feed.wanted)  # type: ignore[attr-defined]
    asked = [frame.partition(b"+{")[0] for frame in payloads(data, kind="out") if frame.startswith(b"smd")]

    assert [b"smd+8314", b"smd+265598"] == asked


@pytest.mark.parametrize(
    ("symbol", "what", "hint"),
    [
        ("IBM", "symbol IBM means several contracts: 8314 (IBM, NASDAQ), 77 (IBM CDR, AEQLIT)", "--symbol IBM:NASDAQ"),
        ("IBM:LSE", "symbol IBM:LSE: not listed there, but there is 8314 (IBM, NASDAQ), 77 (IBM CDR, AEQLIT)", "8314"),
        ("NONE", "no stock has the symbol NONE", "--conid"),
    ],
)
def test_a_symbol_that_is_not_one_contract_is_a_question(tmp_path: Path, symbol: str, what: str, hint: str) -> None:
    """It lists what could be meant, and nothing is written."""

    @in_loop
    async def ask() -> None:
        feed = Script()
        feed.instruments = {
            **feed.instruments,
            77: Instrument(conid=77, symbol="IBM", company="IBM CDR", listing_exchange="AEQLIT"),
        }
        async with gateway_with(feed) as gateway:
            with pytest.raises(UsageError) as caught:
                async with recording(settings_for(gateway, tmp_path / "data", symbol=(symbol,))):
                    pass
        assert what == str(caught.value)
        assert hint in str(caught.value.hint)

    ask()

    assert not (tmp_path / "data").exists()


@in_loop
async def test_an_account_that_is_not_the_logins_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The broker would say nothing about it."""
    caplog.set_level(logging.WARNING)
    data = tmp_path / "data"
    async with (
        gateway_with(Script()) as gateway,
        recording(settings_for(gateway, data, topic=("account_ledger",), account=("DU9",))),
    ):
        await eventually(lambda: payloads(data, kind="out"))

    assert "an account of --account is none of the 1 that this login has" in [one.message for one in caplog.records]
    assert "DU" not in caplog.text
    assert b'sld+DU9+{"keys":[],"fields":[]}' in payloads(data, kind="out")


@in_loop
async def test_a_bare_ledger_row_is_unchanged_and_not_empty(tmp_path: Path) -> None:
    """All its values are null, and filling carries the last ones forward, each currency its own."""
    data = tmp_path / "data"
    topic = "sld+DU1234"
    full = [{"key": key, "cashbalance": cash, "timestamp": 1} for key, cash in (("BASE", 5.0), ("EUR", 2.0))]
    changed = [{"key": "BASE", "timestamp": 2}, {"key": "EUR", "cashbalance": 3.0, "timestamp": 2}]
    feed = Script()
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data, topic=("account_ledger",))):
        await eventually(lambda: topic in feed.wanted)
        feed.push(topic, *(json.dumps({"topic": topic, "result": rows}).encode() for rows in (full, changed)))
        await eventually(lambda: any(b"3.0" in frame for frame in payloads(data)))
    archive = Archive(data)

    assert [5.0, 2.0, None, 3.0] == archive.table("account_ledger")["cashbalance"].to_pylist()
    assert [5.0, 2.0, 5.0, 3.0] == archive.table("account_ledger", fill=True)["cashbalance"].to_pylist()


@in_loop
async def test_an_absent_size_of_a_ladder_is_empty(tmp_path: Path) -> None:
    """Filling a topic whose rows are whole changes nothing."""
    data = tmp_path / "data"
    topic = f"sbd+DU1234+{AAPL}"
    feed = Script()
    async with gateway_with(feed) as gateway, recording(settings_for(gateway, data, topic=("depth",))):
        await eventually(lambda: topic in feed.wanted)
        rows = [{"row": 0, "price": "5.1", "ask": "7"}, {"row": 1, "price": "5.0", "bid": "9"}]
        feed.push(topic, json.dumps({"topic": topic, "data": rows}).encode())
        await eventually(lambda: any(b"5.1" in frame for frame in payloads(data)))

    assert [7.0, None] == Archive(data).table("depth", fill=True)["ask_size"].to_pylist()


# ------------------------------------------------------------------ the plan


def test_one_ladder_an_account(topics: Topics) -> None:
    """The first contract goes with the first account; more contracts than accounts cannot be."""
    two = CaptureSettings(conid=("1", "2@NYSE"), topic=("depth",), account=("DU1", "DU2"))
    short = CaptureSettings(conid=("1", "2"), topic=("depth",), account=("DU1",))
    chosen = CaptureSettings(conid=("1", "2"), topic=("depth",), account=("DU1",), depth_conid=("2",))

    assert ["sbd+DU1+1", "sbd+DU2+2+NYSE"] == [stream.subscribe for stream in plan_streams(two, topics)]
    assert ["sbd+DU1+2"] == [stream.subscribe for stream in plan_streams(chosen, topics)]
    with pytest.raises(UsageError, match="2 contracts, 1 account; each has one ladder") as caught:
        plan_streams(short, topics)
    assert "depth_conid" in str(caught.value.hint)


def test_the_contracts_of_targets() -> None:
    """One exchange is no other contract, and a combo is its legs."""
    targets = ["265598", "8314@NYSE", "28812380;;;8314/1,8315/-1", "265598@ARCA"]

    assert [265598, 8314, 8315] == conids_of(targets)
