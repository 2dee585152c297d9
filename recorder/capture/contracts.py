"""Contracts: what the broker tells about them by REST, and the contracts that symbols mean."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from recorder.capture.rest import Rest
from recorder.errors import GatewayError, UsageError

_log = logging.getLogger(__name__)
_AT_ONCE: Final = 200
"""Contracts of one call: the most that clients' notes name; the broker's document names no limit."""
_LEG: Final = re.compile(r"[;,]([0-9]+)/")


class Candidate(NamedTuple):
    """A stock that a symbol can mean."""

    conid: int
    exchange: str
    name: str

    def __str__(self) -> str:
        return f"{self.conid} ({self.name}, {self.exchange})"


def conids_of(targets: Iterable[str]) -> list[int]:
    """List the contracts of what a capture asks for, each once: 8314 of `8314@NYSE`, the legs of a combo."""
    found = (_LEG.findall(target) if ";" in target else [target.partition("@")[0]] for target in targets)
    return list(dict.fromkeys(int(conid) for conids in found for conid in conids))


async def look_up(rest: Rest, conids: Sequence[int]) -> list[bytes]:
    """Look contracts up; give the recorded REST answers.

    A failure is a warning, as is a contract that the broker does not tell about: what is recorded does not need it.
    """
    answers, missing = [], set(conids)
    for first in range(0, len(conids), _AT_ONCE):
        some = conids[first : first + _AT_ONCE]
        try:
            answer = await rest.contracts(some)
        except GatewayError as exc:
            _log.warning("contracts were not looked up: %s", exc)
            missing -= set(some)
            continue
        answers.append(answer)
        missing -= _told(answer)
    if missing:
        _log.warning("the gateway tells nothing about %s", ", ".join(map(str, sorted(missing))))
    return answers


async def resolve(rest: Rest, symbols: Sequence[str]) -> list[str]:
    """Find the contract of each symbol, `IBM` or `AAPL:NASDAQ`.

    `UsageError` where there is none or more than one: it lists what could be meant. `GatewayError` as of REST.
    """
    if not symbols:
        return []
    tickers = [symbol.partition(":")[0].strip().upper() for symbol in symbols]
    found = await rest.stocks(list(dict.fromkeys(tickers)))
    return [str(_only(symbol, _candidates(found.get(ticker)))) for symbol, ticker in zip(symbols, tickers, strict=True)]


def _only(symbol: str, candidates: Sequence[Candidate]) -> int:
    exchange = symbol.partition(":")[2].upper()
    fitting = [one for one in candidates if not exchange or one.exchange.upper() == exchange]
    if len(fitting) == 1:
        _log.info("%s is %s", symbol, fitting[0])
        return fitting[0].conid
    if fitting:
        one = fitting[0]
        raise UsageError(
            f"symbol {symbol} means several contracts: {', '.join(map(str, fitting))}",
            hint=f"choose one with --conid {one.conid}, or by its exchange with --symbol {symbol}:{one.exchange}"
            if not exchange
            else f"choose one with --conid {one.conid}",
        )
    if candidates:
        raise UsageError(
            f"symbol {symbol}: not listed there, but there is {', '.join(map(str, candidates))}",
            hint=f"choose one with --conid {candidates[0].conid}",
        )
    raise UsageError(f"no stock has the symbol {symbol}", hint="name contracts that are no stocks with --conid")


def _candidates(names: Any) -> list[Candidate]:
    """Read the answer of one symbol: names, each with its contracts (the broker's document)."""
    return [
        Candidate(contract["conid"], str(contract.get("exchange")), str(name.get("name")))
        for name in (names if type(names) is list else ())
        if type(name) is dict
        for contract in name.get("contracts") or ()
        if type(contract) is dict and type(contract.get("conid")) is int
    ]


def _told(answer: bytes) -> set[int]:
    try:
        said = msgspec.json.decode(answer.partition(b"\n")[2])
    except msgspec.DecodeError:
        return set()
    rows = said.get("secdef") if type(said) is dict else None
    conids = [str(row.get("conid")) for row in (rows if type(rows) is list else ()) if type(row) is dict]
    return {int(conid) for conid in conids if conid.isdecimal()}
