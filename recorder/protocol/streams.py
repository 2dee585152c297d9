"""Streams: what the chosen topics make a client ask for, as texts to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from recorder.protocol.topics import Subscription, Topic


class Stream(NamedTuple):
    """One thing to subscribe to. `key` is the wire topic that its frames will carry, `smd+265598`.

    `at_once` is 0 for a stream that flows until it is cancelled. Else it answers once, `cancel` has to be filled with
    keys of the answer, and the broker lets so many of the topic be open at a time.
    """

    topic: str
    key: str
    subscribe: str
    cancel: str
    brokerage: bool
    renew: bool
    at_once: int = 0


def streams_of(
    topics: Iterable[Topic],
    *,
    targets: Iterable[str],
    fields: Iterable[str],
    accounts: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> list[Stream]:
    """List the streams that the topics ask for.

    A target is a contract as the user writes it, `265598@NYSE`. Of a topic whose streams name a contract and an account
    the first contract goes with the first account, and so on. `values` fill further blanks, `{bars_period}` say.
    """
    shared = {"fields": msgspec.json.encode(list(fields)).decode(), **(values or {})}
    wanted = list(targets)
    return [
        _stream(topic, asked, {**shared, "target": target, "target+": target.replace("@", "+"), "account": account})
        for topic in topics
        if (asked := topic.subscription) is not None  # else it comes by itself
        for target, account in _pairs(asked, wanted, accounts)
    ]


def _pairs(asked: Subscription, targets: Sequence[str], accounts: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give the contract and the account of each stream, empty where it has none."""
    if asked.one_an_account:
        yield from zip(targets, accounts, strict=False)
    elif asked.per == "contract":
        yield from ((target, "") for target in targets)
    elif asked.per == "account":
        yield from (("", account) for account in accounts)
    else:
        yield "", ""


def _stream(topic: Topic, asked: Subscription, blanks: Mapping[str, str]) -> Stream:
    subscribe, cancel = _filled(asked.send, blanks), _filled(asked.cancel, blanks)
    key = subscribe.partition("+{")[0]
    return Stream(topic.name, key, subscribe, cancel, asked.brokerage, asked.renew, asked.at_once)


def _filled(template: str, blanks: Mapping[str, str]) -> str:
    for blank, value in blanks.items():
        template = template.replace(f"{{{blank}}}", value)
    return template
