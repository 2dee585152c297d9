"""Every topic file says what a topic file must say, and has samples; a bad one is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from recorder.errors import TopicFileError, UsageError
from recorder.protocol.envelope import wire_topic
from recorder.protocol.marks import decode_mark
from recorder.protocol.topics import Column, Parser, Topic, load_topics, parse_topic
from recorder.types import KINDS

ROOT = Path(__file__).parent.parent
SCHEMAS = ROOT / "schemas"
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.toml"))
SNAKE_CASE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
MARKET_DATA_IDS = """
    31 55 58 70 71 73 74 75 76 77 78 79 80 82 83 84 85 86 87 88 201 6004 6008 6070 6072 6073 6119 6457 6508 6509
    7051 7057 7058 7059 7068 7084 7085 7086 7087 7088 7089 7094 7184 7219 7220 7221 7280 7281 7282 7283 7284 7285
    7286 7287 7288 7289 7290 7291 7292 7293 7294 7295 7296 7308 7309 7310 7311 7607 7633 7635 7636 7637 7638 7639
    7644 7655 7671 7672 7674 7675 7676 7677 7678 7679 7681 7682 7683 7684 7685 7686 7687 7688 7689 7690 7694 7695
    7696 7697 7698 7699 7700 7702 7703 7704 7705 7706 7707 7708 7714 7715 7718 7720 7724 7741 7762 7768 7920 7921
    7943 78_raw 87_raw 7282_raw 7292_raw conidEx server_id topic
"""
GOOD = """
name = "pings"
doc = "Pings."
prefixes = ["png"]
rows = "frame"
column = [{ name = "alive", key = "alive", parser = "flag", doc = "Whether it lives." }]
"""


class Sample(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a samples file."""

    frame: str
    rows: list[dict[str, Any]]
    source: str
    kind: str = "in"


def topic_named(name: str) -> Topic:
    """Read one topic file."""
    path = SCHEMAS / f"{name}.toml"
    return parse_topic(path.read_text("utf-8"), path=path)


def samples_of(name: str) -> list[Sample]:
    """Read a topic's samples."""
    lines = (SCHEMAS / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [msgspec.json.decode(line, type=Sample) for line in lines]


def known(topic: Topic) -> tuple[Column, ...]:
    """Give all that a topic has a name for."""
    return (*topic.columns, *topic.fields)


def refusal(text: str, path: Path = Path("somewhere/pings.toml")) -> str:
    """Give what a bad topic file is told."""
    with pytest.raises(TopicFileError) as caught:
        parse_topic(text, path=path)
    return str(caught.value)


def test_the_folder_loads() -> None:
    """No two files claim one wire prefix."""
    topics = load_topics(SCHEMAS)

    assert sorted(topic.name for topic in topics) == NAMES
    assert {"market_data", "orders", "pnl", "trades", "depth", "bars"} <= set(NAMES)


def test_a_frame_is_claimed_by_its_prefix() -> None:
    """What follows the first plus is the stream's, not the topic's."""
    topics = load_topics(SCHEMAS)

    claimed = [topics.claiming(wire) for wire in ("smd+8314@OVERNIGHT", "spl", "ech+hb", "xyz+1", None)]

    assert [topic and topic.name for topic in claimed] == ["market_data", "pnl", "system", None, None]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_snake_case(name: str) -> None:
    """A name can be typed as an attribute: `event.bid_price`."""
    topic = topic_named(name)

    for column in (topic.name, *(column.name for column in known(topic))):
        assert SNAKE_CASE.fullmatch(column), column


@pytest.mark.parametrize("name", NAMES)
def test_names_are_free_to_be_attributes_of_a_tuple(name: str) -> None:
    """`count` and `index` are methods of every record."""
    assert not {column.name for column in known(topic_named(name))} & {*dir(tuple), "topic"}


@pytest.mark.parametrize("name", NAMES)
def test_everything_has_a_doc(name: str) -> None:
    """One short sentence that ends as sentences do."""
    topic = topic_named(name)

    for doc in (topic.doc, *(column.doc for column in known(topic))):
        assert doc.endswith((".", "…")), doc
        assert 4 <= len(doc) <= 120, doc


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_claimed_twice_only_for_its_flag(name: str) -> None:
    """A value goes to one column; what stands before a price, a letter or a size, is the exception."""
    keys = [column.key for column in known(topic_named(name)) if column.parser not in ("price_flag", "at_size")]

    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", NAMES)
def test_a_subscription_has_its_blanks(name: str) -> None:
    """A stream names its contract or account, to begin and to end it; an answer names itself, a ladder its account."""
    subscription = topic_named(name).subscription
    if subscription is None:
        return

    send, cancel = subscription.send, subscription.cancel
    named = {"contract": "{target", "account": "{account}", "session": ""}[subscription.per]
    ended = "{serverId}" if subscription.at_once else "{account}" if subscription.one_an_account else named
    assert named in send
    assert ended in cancel
    assert "{target" not in send + cancel or subscription.per == "contract"


@pytest.mark.parametrize("name", NAMES)
def test_samples_belong_to_their_topic(name: str) -> None:
    """Each is a frame of the topic, or a REST answer that has its rows."""
    topic = topic_named(name)
    samples = samples_of(name)

    assert samples
    for sample in samples:
        assert sample.kind in KINDS
        if sample.kind == "rest":
            assert topic.rest is not None
            assert sample.frame.partition("\n")[0].partition("?")[0].endswith(topic.rest.path)
        elif sample.kind == "mark":
            assert topic.mark is not None
            assert decode_mark(sample.frame.encode())["event"] == topic.mark.event
        else:
            assert (wire_topic(sample.frame.encode()) or "").partition("+")[0] in topic.prefixes


@pytest.mark.parametrize("name", NAMES)
def test_samples_expect_columns_that_exist(name: str) -> None:
    """Nulls are left out, and every row says its contract."""
    columns = {column.name for column in topic_named(name).columns}

    for sample in samples_of(name):
        for row in sample.rows:
            assert set(row) - {"conid", "ts_event", "extra"} <= columns
            assert None not in row.values()
            assert isinstance(row["conid"], int)
            assert all(isinstance(text, str) for text in row.get("extra", {}).values())


@pytest.mark.parametrize("name", NAMES)
def test_samples_fill_every_column(name: str) -> None:
    """A column that no sample fills is not tested."""
    topic = topic_named(name)
    filled = {key for sample in samples_of(name) for row in sample.rows for key in row}

    assert {column.name for column in topic.columns} - filled == set()


def test_what_speaks_only_on_change_is_known() -> None:
    """Its silence is no gap: orders without a live order, trades on a day without executions."""
    asked = {topic.name: topic.subscription for topic in load_topics() if topic.subscription is not None}

    assert {"orders", "trades"} == {name for name, subscription in asked.items() if not subscription.answered}


def test_market_data_has_at_most_48_columns() -> None:
    """Mostly empty columns cost every reader memory."""
    assert len(topic_named("market_data").columns) <= 48


def test_every_market_data_id_is_known() -> None:
    """What the broker documents is a column or a field; `_updated` is the row's ts_event, `conid` its folder."""
    topic = topic_named("market_data")

    assert {column.key for column in known(topic)} == set(MARKET_DATA_IDS.split())
    assert topic.event_time == "_updated"
    assert topic.conid.keys == ("conid",)


def test_market_data_asks_for_what_it_knows() -> None:
    """The default fields are ids of columns, so that a default recording fills no `extra`."""
    topic = topic_named("market_data")

    assert set(topic.default_fields) <= {column.key for column in topic.columns}
    assert all(field.isdigit() for field in topic.default_fields)
    assert {"31", "84", "85", "86", "88", "7059", "7762"} <= set(topic.default_fields)


def test_the_guide_names_every_key_and_parser() -> None:
    """A new key of topic files without docs fails here."""
    guide = (ROOT / "docs" / "add-a-topic.md").read_text("utf-8")
    keys = [field.encode_name for kind in (Topic, Column) for field in msgspec.structs.fields(kind)]

    assert [word for word in (*keys, *get_args(Parser)) if f"`{word}`" not in guide] == []


def test_a_good_topic_file_is_read() -> None:
    """The shortest there can be."""
    topic = parse_topic(GOOD, path=Path("pings.toml"))

    assert topic.field("alive").type == "bool"
    assert topic.subscription is None


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('"flag"', '"boolean"', "boolean"),
        ('rows = "frame"', 'rows = "all"', "all"),
        ('prefixes = ["png"]', "", "prefixes"),
        ('doc = "Pings."', 'doc = "Pings."\ncolour = "red"', "colour"),
        ('key = "alive"', 'keys = "alive"', "keys"),
        (", doc = ", ", dok = ", "dok"),
        ('name = "alive"', 'name = "conid"', "conid"),
        ('name = "pings"', 'name = "pongs"', "pongs"),
        ('rows = "frame"', "rows = ", "line"),
        ("[{", '[{ name = "alive", key = "a", parser = "text", doc = "D." }, {', "two columns named 'alive'"),
    ],
)
def test_a_bad_topic_file_is_named(before: str, after: str, complaint: str) -> None:
    """The error says which file, and what in it."""
    message = refusal(GOOD.replace(before, after))

    assert "somewhere/pings.toml" in message
    assert complaint in message


def test_two_topics_cannot_claim_one_prefix(tmp_path: Path) -> None:
    """A frame has one topic."""
    (tmp_path / "pings.toml").write_text(GOOD)
    (tmp_path / "pongs.toml").write_text(GOOD.replace('"pings"', '"pongs"'))

    with pytest.raises(TopicFileError, match="png"):
        load_topics(tmp_path)


def test_a_folder_without_topic_files_is_named(tmp_path: Path) -> None:
    """An installation that lost its topic files says so."""
    with pytest.raises(TopicFileError, match="no topic files") as caught:
        load_topics(tmp_path)

    assert str(tmp_path) in str(caught.value)


def test_an_unknown_topic_or_field_brings_the_known_ones() -> None:
    """The hint says what could have been meant."""
    topics = load_topics(SCHEMAS)

    with pytest.raises(UsageError) as unknown_topic:
        topics["quotes"]
    with pytest.raises(UsageError) as unknown_field:
        topics["orders"].field("order_idd")

    assert "market_data" in str(unknown_topic.value.hint)
    assert "order_id" in str(unknown_field.value.hint)


def test_a_fingerprint_changes_with_the_columns_alone() -> None:
    """Parts written under another schema are told by it; a better doc is no other schema."""
    topic = parse_topic(GOOD, path=Path("pings.toml"))
    reworded = parse_topic(GOOD.replace("Whether it lives.", "Alive or not."), path=Path("pings.toml"))
    retyped = parse_topic(GOOD.replace('"flag"', '"text"'), path=Path("pings.toml"))

    assert topic.fingerprint == reworded.fingerprint != retyped.fingerprint
