"""The synthetic market: deterministic, on its grid, written as the broker writes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import pytest

from recorder.protocol.dialect import parse_number, parse_price, parse_price_flag, parse_size
from recorder.replay.feed import Update
from recorder.replay.instruments import listings
from recorder.replay.market import Contract, java_double
from recorder.replay.synthetic import SyntheticFeed
from recorder.replay.synthetic_account import Account

T0 = 1_785_763_811_000_000
SLICE = 20_000
PRICES = ("31", "84", "86", "70", "71", "7295", "7296", "7741")


def run(feed: SyntheticFeed, *, seconds: float, start: int = T0) -> list[Update]:
    """Let time pass in slices."""
    return [update for now in range(start, start + int(seconds * 1e6), SLICE) for update in feed.advance(now).updates]


def everything(feed: SyntheticFeed) -> list[str]:
    """Name all streams of a feed."""
    return [*(f"smd+{conid}" for conid in feed.instruments), "sor", "spl", "str"]


def contents(updates: list[Update], topic: str) -> Iterator[dict[str, Any]]:
    """Read the frames of a topic."""
    return (json.loads(update.data) for update in updates if update.stream.partition("+")[0] == topic)


def order_lives(updates: list[Update]) -> dict[int, list[dict[str, Any]]]:
    """Gather the rows of each order."""
    lives = defaultdict(list)
    for frame in contents(updates, "sor"):
        for row in frame["args"]:
            lives[row["orderId"]].append(row)
    return lives


@pytest.fixture(scope="module")
def busy() -> tuple[SyntheticFeed, dict[str, dict[str, Any]], list[Update]]:
    """Two minutes of a market of 20 contracts: the feed, the first full frames, the updates."""
    feed = SyntheticFeed(seed=7, contracts=20, rate=500, order_every=1.0)
    feed.want(everything(feed))
    first = {f"smd+{conid}": json.loads(feed.snapshot(f"smd+{conid}", T0) or b"") for conid in feed.instruments}
    return feed, first, run(feed, seconds=120)


def test_the_same_seed_gives_the_same_frames() -> None:
    """To the byte, whatever the order in which the streams were asked for; another seed gives others."""

    def frames(seed: int, *, turned: bool) -> list[Update]:
        feed = SyntheticFeed(seed=seed, contracts=30, rate=1_000)
        feed.want(list(reversed(everything(feed))) if turned else everything(feed))
        return run(feed, seconds=5)

    assert frames(7, turned=False) == frames(7, turned=True)
    assert frames(7, turned=False) != frames(8, turned=False)


def test_well_known_contracts_come_first_and_conids_are_unique() -> None:
    """The catalogue does not depend on the seed, so a command line can name conids."""
    catalogue = listings(2_000)

    assert [one.instrument.symbol for one in catalogue[:3]] == ["AAPL", "IBM", "MSFT"]
    assert [one.instrument.conid for one in catalogue[:3]] == [265598, 8314, 272093]
    assert len({one.instrument.conid for one in catalogue}) == 2_000
    assert len({one.instrument.symbol for one in catalogue}) == 2_000
    assert catalogue[:100] == listings(100)


def test_the_rate_is_that_of_the_schedule_and_does_not_drift() -> None:
    """Over any stretch the count is what rate and time give, however time is cut."""
    feed = SyntheticFeed(seed=1, contracts=5, rate=333, order_every=0)
    feed.want(["smd+265598", "smd+8314"])
    cuts = [0, 1_000, 17_000, 20_000, 333_333, 1_000_000, 1_500_001, 2_000_000, 2_999_999, 3_000_000]

    counts = accumulate(len(feed.advance(T0 + cut).updates) for cut in cuts)

    assert list(counts) == [int(cut * 333 / 1_000_000) for cut in cuts]


def test_a_slice_is_bounded_and_asks_to_be_called_again() -> None:
    """However much is due, one call stays short; what a machine cannot make is passed over, not piled up."""
    feed = SyntheticFeed(seed=1, contracts=5, rate=1_000_000, order_every=0)
    feed.want(["smd+265598"])
    feed.advance(T0)

    updates, again, _ = feed.advance(T0 + 500_000)

    assert len(updates) == 2_000
    assert again == T0 + 500_000
    assert feed.advance(T0 + 60_000_000).updates == []
    assert len(feed.advance(T0 + 60_001_000).updates) == 1_000


def test_only_streams_that_are_wanted_get_frames(busy: tuple[SyntheticFeed, Any, Any]) -> None:
    """And none after they are not wanted any more."""
    feed = SyntheticFeed(seed=1, contracts=5, rate=500)
    feed.want(["smd+265598", "smd+8314@NYSE", "smd+1", "smd+x"])
    assert {update.stream for update in run(feed, seconds=1) if update.stream[:3] == "smd"} == {
        "smd+265598",
        "smd+8314@NYSE",
    }
    feed.want([])
    assert [
        update for update in run(feed, seconds=1, start=T0 + 1_000_000) if update.stream[:3] in ("smd", "spl")
    ] == []
    assert {update.stream for update in busy[2]} == {*everything(busy[0]), "ntf"}


def test_an_exchange_is_restated_in_topic_and_conid_ex() -> None:
    """`conid` stays the plain number."""
    frame = json.loads(SyntheticFeed(contracts=2).snapshot("smd+8314@NYSE", T0) or b"")

    assert (frame["topic"], frame["conidEx"], frame["conid"]) == ("smd+8314@NYSE", "8314@NYSE", 8314)


def test_a_contract_that_is_not_offered_has_no_frame() -> None:
    """Nor has a stream that is no market data of ours."""
    feed = SyntheticFeed(contracts=2)

    nothing = (
        "smd+1",
        "smd+1;;;2/1",
        "sor",
        "sbd+DU9+8314",
        "sbd+DU1000001+1",
        "sbd",
        "smh+1+{}",
        "ssd+DU9",
        "sld+DU9",
    )

    assert [feed.snapshot(stream, T0) for stream in nothing] == [None] * len(nothing)


def test_every_frame_has_the_envelope(busy: tuple[Any, Any, list[Update]]) -> None:
    """Topic, conid, conidEx, `_updated` in milliseconds, and one marker under two keys."""
    previous = 0
    for frame in contents(busy[2], "smd"):
        assert frame["topic"] == f"smd+{frame['conid']}"
        assert frame["conidEx"] == str(frame["conid"])
        assert frame["server_id"] == frame["6119"]
        assert re.fullmatch(r"q[0-9]+", frame["6119"])
        assert isinstance(frame["_updated"], int)
        assert previous <= frame["_updated"] <= (T0 + 120_000_000) // 1000
        previous = frame["_updated"]


def test_a_new_request_has_a_new_marker() -> None:
    """As after a reconnect at the broker."""
    feed = SyntheticFeed(contracts=2)
    markers = []
    for _ in range(2):
        markers.append(json.loads(feed.snapshot("smd+8314", T0) or b"")["server_id"])
        feed.want([])

    assert markers[0] != markers[1]


def test_deltas_hold_changes_only(busy: tuple[Any, dict[str, dict[str, Any]], list[Update]]) -> None:
    """A field is sent when its text differs from the one before, and never otherwise."""
    _, first, updates = busy
    states = {stream: dict(frame) for stream, frame in first.items()}
    always = {"topic", "conid", "conidEx", "server_id", "6119", "_updated"}
    for update in updates:
        if not update.stream.startswith("smd"):
            continue
        state, frame = states[update.stream], json.loads(update.data)
        fields = {key: value for key, value in frame.items() if key not in always and not key.endswith("_raw")}
        # change and percent come with the last price, though they round to the same now and then
        unchanged = {key for key, value in fields.items() if state.get(key) == value} - {"82", "83"}
        assert fields
        assert unchanged == set()
        state |= frame


def test_carried_forward_deltas_give_the_full_frame(busy: tuple[SyntheticFeed, dict[str, Any], list[Update]]) -> None:
    """What a client has put together equals what a new client gets."""
    feed, first, updates = busy
    for stream, frame in first.items():
        state = dict(frame)
        for update in updates:
            if update.stream == stream:
                state |= json.loads(update.data)
        now = json.loads(feed.snapshot(stream, T0) or b"")
        assert {**state, "_updated": 0} == {**now, "_updated": 0}


def test_prices_stay_on_the_grid_of_their_tick(busy: tuple[SyntheticFeed, dict[str, Any], list[Update]]) -> None:
    """Every price of every frame is a whole number of ticks with the decimals of its contract."""
    ticks = {one.instrument.conid: one for one in listings(20)}
    seen = 0
    for frame in [*busy[1].values(), *contents(busy[2], "smd")]:
        listing = ticks[frame["conid"]]
        for key in PRICES:
            if key in frame:
                text = frame[key].removeprefix("C")
                assert re.fullmatch(rf"[0-9]+\.[0-9]{{{listing.decimals}}}", text)
                assert int(text.replace(".", "")) % listing.tick == 0
                seen += 1
    assert seen > 10_000


def test_bid_is_below_ask_and_low_below_high(busy: tuple[Any, dict[str, Any], list[Update]]) -> None:
    """At every moment, in the state that a client puts together."""
    states = {stream: dict(frame) for stream, frame in busy[1].items()}
    for update in busy[2]:
        if update.stream.startswith("smd"):
            state = states[update.stream]
            state |= json.loads(update.data)
            assert float(state["84"]) < float(state["86"])
            if "70" in state:
                assert float(state["71"]) <= float(state["31"]) <= float(state["70"])


def test_values_are_written_as_the_broker_writes_them(busy: tuple[Any, dict[str, Any], list[Update]]) -> None:
    """Texts with commas for sizes, a signed change, a number in percent, a shortened volume and its companion."""
    patterns = {
        "85": r"[0-9]{1,3}(,[0-9]{3})*",
        "88": r"[0-9]{1,3}(,[0-9]{3})*",
        "7059": r"[0-9]{1,3}(,[0-9]{3})*",
        "7762": r"[0-9]+",
        "87": r"[0-9]+|[0-9]{1,3}\.[0-9][KM]",
        "82": r"[+-][0-9]+\.[0-9]+|0\.0+",
        "31": r"C?[0-9]+\.[0-9]+",
        "6509": "RpB",
    }
    seen = set()
    for frame in [*busy[1].values(), *contents(busy[2], "smd")]:
        for key in patterns.keys() & frame.keys():
            assert re.fullmatch(patterns[key], frame[key]), (key, frame[key])
            seen.add(key)
        assert isinstance(frame.get("83", 0.0), float)
        if "87" in frame:
            assert frame["87_raw"] == parse_number(frame["87"])
    assert seen == patterns.keys()
    assert any("," in frame.get("88", "") for frame in contents(busy[2], "smd"))


def test_change_and_percent_are_those_of_the_last_price(busy: tuple[Any, dict[str, Any], list[Update]]) -> None:
    """Against the prior close, with its sign."""
    priors = {frame["conid"]: float(frame["7741"]) for frame in busy[1].values()}
    for frame in contents(busy[2], "smd"):
        if "31" in frame:
            prior = priors[frame["conid"]]
            change = float(frame["31"]) - prior
            assert parse_price(frame["82"]) == pytest.approx(change, abs=1e-9)
            assert frame["83"] == pytest.approx(100 * change / prior, abs=0.0051)


def test_volume_grows_by_the_size_of_each_trade(busy: tuple[Any, dict[str, Any], list[Update]]) -> None:
    """7762 is exact and never falls; 7059 is left out when it is the same again."""
    states = {stream: dict(frame) for stream, frame in busy[1].items()}
    trades = 0
    for update in busy[2]:
        if update.stream.startswith("smd"):
            frame, state = json.loads(update.data), states[update.stream]
            before = int(state.get("7762", "0"))
            state |= frame
            if "7762" in frame:
                assert int(frame["7762"]) - before == parse_size(state["7059"])
                trades += 1
    assert trades > 10_000


def test_untraded_contracts_begin_with_the_prior_close(busy: tuple[Any, dict[str, Any], list[Update]]) -> None:
    """A `C` before the price, no day statistics; with the first trade the letter goes and they come."""
    untraded = {stream: frame for stream, frame in busy[1].items() if parse_price_flag(frame["31"]) == "C"}
    assert len(untraded) == 2
    for stream, frame in untraded.items():
        assert frame["31"] == f"C{frame['7741']}"
        assert not {"7059", "7762", "87", "70", "71", "7295", "82", "83"} & frame.keys()
        first = next(content for content in contents(busy[2], "smd") if content["topic"] == stream and "31" in content)
        assert first["31"] == first["70"] == first["71"] == first["7295"]


def test_java_doubles() -> None:
    """The exponent form begins at ten million."""
    numbers = {24_200_000.0: "2.42E7", 10_000_000.0: "1.0E7", 9_999_999.0: "9999999.0", 950.0: "950.0", 2e9: "2.0E9"}

    assert {number: java_double(number) for number in numbers} == numbers


def test_orders_live_the_life_seen_in_captures(busy: tuple[Any, Any, list[Update]]) -> None:
    """Full row, marker row, three states, fills or a cancel with a full row again; deltas hold changes only."""
    lives = order_lives(busy[2])
    ends = {"Filled": 0, "Cancelled": 0}
    for rows in lives.values():
        full, marker, *rest = rows
        assert (full["status"], full["sizeAndFills"]) == ("Inactive", f"0/{int(full['totalSize'])}")
        assert marker.keys() == {"acct", "conidex", "conid", "orderId", "isEventTrading"}
        states = [row["status"] for row in rest if "status" in row]
        assert states[:3] == ["PendingSubmit", "PreSubmitted", "Submitted"][: len(states)]
        for row in rest:
            assert row["acct"] == "DU1000001"
            assert "conid" not in row or row["status"] == "PendingCancel"
        if states[-1] in ends:
            ends[states[-1]] += 1
    assert len(lives) > 80
    assert min(ends.values()) > 10


def test_fills_add_up(busy: tuple[Any, Any, list[Update]]) -> None:
    """Quantities are complementary, grow, carry an average price, and a filled order has nothing left."""
    partial = 0
    for rows in order_lives(busy[2]).values():
        size, filled = rows[0]["totalSize"], 0.0
        for row in (row for row in rows[1:] if "avgPrice" in row and "acct" in row and "conid" not in row):
            assert row["filledQuantity"] > filled
            filled = row["filledQuantity"]
            assert row["remainingQuantity"] == size - filled
            done = row["remainingQuantity"] == 0
            assert row["sizeAndFills"] == (str(int(size)) if done else f"{int(filled)}/{int(size - filled)}")
            assert (row.get("status") == "Filled") == done
            assert re.fullmatch(r"[0-9]+\.[0-9]{2}", row["avgPrice"])
            partial += not done
    assert partial > 20


def test_an_order_is_submitted_within_fifty_milliseconds() -> None:
    """As measured: six or seven frames in under 50 ms."""
    feed = SyntheticFeed(seed=3, contracts=3, rate=0, order_every=1.0)
    moments: dict[int, list[int]] = defaultdict(list)
    for now in range(T0, T0 + 20_000_000, 1_000):
        for frame in contents(list(feed.advance(now).updates), "sor"):
            for row in frame["args"]:
                if row.get("status") in ("Inactive", "Submitted"):
                    moments[row["orderId"]].append(now)
    spans = [times[1] - times[0] for times in moments.values() if len(times) > 1]

    assert len(spans) > 10
    assert max(spans) <= 50_000


def test_rest_rows_show_the_orders_as_they_are(busy: tuple[SyntheticFeed, Any, list[Update]]) -> None:
    """The last status sent is the status of the row."""
    feed, _, updates = busy
    sent = {
        order: [row["status"] for row in rows if "status" in row][-1] for order, rows in order_lives(updates).items()
    }

    assert {row["orderId"]: row["status"] for row in feed.orders(T0)} == sent


def test_executions_are_sent_twice_and_listed_to_a_newcomer(busy: tuple[SyntheticFeed, Any, list[Update]]) -> None:
    """First without commission, then with it."""
    feed, _, updates = busy
    revisions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for frame in contents(updates, "str"):
        for row in frame["args"]:
            revisions[row["execution_id"]].append(row)
    for first, *more in revisions.values():
        assert "commission" not in first
        assert [row | first == row and "commission" in row for row in more] == [True] * len(more)

    listed = json.loads(feed.snapshot("str", T0) or b"")["args"]
    assert [row["execution_id"] for row in listed] == [key for key, rows in revisions.items() if len(rows) > 1]


def test_pnl_comes_once_a_second(busy: tuple[Any, Any, list[Update]]) -> None:
    """With all documented keys, for the account's default part."""
    frames = list(contents(busy[2], "spl"))

    assert 118 <= len(frames) <= 120
    for frame in frames:
        assert list(frame["args"]) == ["DU1000001.Core"]
        assert list(frame["args"]["DU1000001.Core"]) == ["rowType", "dpl", "nl", "upl", "el", "uel", "mv"]


def test_the_account_books_its_fills() -> None:
    """Money, value and profit follow the trades, through a change of sides."""
    contract: Contract = SyntheticFeed(contracts=1).market.contracts[265598]
    account = Account("DU1", [])
    price = contract.price
    account.fill(contract, 100, price - 1)
    account.fill(contract, -150, price)
    part = json.loads(account.pnl())["args"]["DU1.Core"]

    assert part["upl"] == pytest.approx(0)
    assert part["mv"] == pytest.approx(-50 * price, abs=0.01)
    assert part["nl"] == pytest.approx(1_000_100, abs=0.01)


def test_summary_and_ledger_name_their_stream() -> None:
    """The topic restates the request; times are in seconds; an unchanged currency is a bare row."""
    feed = SyntheticFeed(contracts=2)
    summary = json.loads(feed.snapshot("ssd+DU1000001", T0) or b"")
    ledger = json.loads(feed.snapshot("sld+DU1000001", T0) or b"")

    assert (summary["topic"], ledger["topic"]) == ("ssd+DU1000001", "sld+DU1000001")
    assert {row["timestamp"] for row in [*summary["result"], *ledger["result"]]} == {T0 // 1_000_000}
    assert ledger["result"][1]["cashbalance"] == 0.0  # the first frame is whole
