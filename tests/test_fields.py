"""Fields are found by words, and named to the broker by id."""

from __future__ import annotations

from pathlib import Path

import pytest

from recorder.errors import UsageError
from recorder.protocol.fields import field_ids, search_fields
from recorder.protocol.topics import Topic, load_topics

SCHEMAS = Path(__file__).parent.parent / "schemas"


@pytest.fixture(scope="module")
def market_data() -> Topic:
    """Give the topic whose fields are searched."""
    return load_topics(SCHEMAS)["market_data"]


def found(topic: Topic, words: str) -> list[str]:
    """Give the names that a search finds."""
    return [column.name for column in search_fields(topic, words)]


def test_a_search_finds_names_before_docs(market_data: Topic) -> None:
    """`bid` names the quote's columns and the bond yield; the mark price only mentions it."""
    names = found(market_data, "bid")

    assert names[:3] == ["bid_price", "bid_size", "bid_exchange_codes"]
    assert names.index("bid_yield") < names.index("mark_price")


def test_a_whole_name_comes_first(market_data: Topic) -> None:
    """`volume` is a name of its own, and part of others."""
    names = found(market_data, "volume")

    assert names[0] == "volume"
    assert {"volume_long", "option_volume", "average_volume_90d"} <= set(names)


def test_an_id_finds_all_its_columns(market_data: Topic) -> None:
    """Field 31 fills two columns."""
    assert found(market_data, "31")[:2] == ["last_price", "last_price_flag"]


def test_all_words_must_match(market_data: Topic) -> None:
    """More words find less."""
    assert found(market_data, "bid size") == ["bid_size"]


def test_a_search_ignores_case(market_data: Topic) -> None:
    """Users type as they like."""
    assert found(market_data, "EMA") == found(market_data, "ema")
    assert "ema_200" in found(market_data, "EMA")


def test_a_search_without_a_match_finds_nothing(market_data: Topic) -> None:
    """Nothing is offered in its place."""
    assert found(market_data, "bid zebra") == []


def test_a_search_without_words_finds_everything(market_data: Topic) -> None:
    """An empty search lists all, columns first."""
    assert len(found(market_data, "")) == len(market_data.columns) + len(market_data.fields)


def test_names_become_ids(market_data: Topic) -> None:
    """Names and ids mix, and order is kept."""
    assert field_ids(market_data, ["last_price", "84", "ask_price", "beta"]) == ["31", "84", "86", "7718"]


def test_an_id_is_asked_for_once(market_data: Topic) -> None:
    """Several names may mean one id."""
    assert field_ids(market_data, ["31", "last_price", "last_price_flag"]) == ["31"]


def test_an_unknown_id_is_passed_on(market_data: Topic) -> None:
    """The broker adds ids without notice."""
    assert field_ids(market_data, ["99999"]) == ["99999"]


def test_a_raw_companion_is_asked_for_by_its_field(market_data: Topic) -> None:
    """`87_raw` comes beside 87 and cannot be asked for."""
    assert field_ids(market_data, ["volume_unformatted", "87_raw"]) == ["87"]


def test_an_unknown_name_brings_the_nearest(market_data: Topic) -> None:
    """A slip of the finger is answered with what was meant."""
    with pytest.raises(UsageError, match="'bid_prize'") as caught:
        field_ids(market_data, ["bid_prize"])

    assert "bid_price" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["server_id", "conid_ex", "wire_topic"])
def test_what_comes_by_itself_cannot_be_asked_for(market_data: Topic, name: str) -> None:
    """The envelope is no field."""
    with pytest.raises(UsageError, match=name) as caught:
        field_ids(market_data, [name])

    assert "by itself" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["", " ", "8 4", "٣١", "-31"])
def test_what_is_neither_name_nor_id_is_refused(market_data: Topic, name: str) -> None:
    """An id is ASCII digits only."""
    with pytest.raises(UsageError):
        field_ids(market_data, [name])
