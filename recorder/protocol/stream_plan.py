"""Streams: what the chosen topics make a client ask for, as texts to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from recorder.protocol.topics import Subscription, Topic


class Stream(NamedTuple):
    """One thing to subscribe to. `key` is the wire topic that its frames will carry, `smd+265598`.

    `at_once` is 0 for a stream that flows until it is cancelled. Else it answers once, `cancel` has to be filled with
    keys of the answer, and the broker lets so many of the topic be open at a time. `answered` is false where the broker
    sends nothing before something changes; `snapshot` says that REST has what the stream leaves out.
    """

    topic: str
    key: str
    subscribe: str
    cancel: str
    brokerage: bool
    renew: bool
    at_once: int = 0
    answered: bool = True
    snapshot: bool = False
    conid: int | None = None


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
    return Stream(
        topic=topic.name,
        key=subscribe.partition("+{")[0],
        subscribe=subscribe,
        cancel=cancel,
        brokerage=asked.brokerage,
        renew=asked.renew,
        at_once=asked.at_once,
        answered=asked.answered,
        snapshot=topic.rest is not None,
        conid=_conid(blanks["target"]),
    )


def _filled(template: str, blanks: Mapping[str, str]) -> str:
    for blank, value in blanks.items():
        template = template.replace(f"{{{blank}}}", value)
    return template


def _conid(target: str) -> int | None:
    """Find the contract in a target: `8314@NYSE` is 8314, a combo `28812380;;;…` is 28812380."""
    digits = target.partition("@")[0].partition(";")[0]
    return int(digits) if digits.isdecimal() else None
