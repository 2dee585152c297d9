"""Settings of a capture: their names, types, defaults and what each may be."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from recorder.errors import SettingError
from recorder.protocol.days import DayBoundary

Duration = Annotated[float, Meta(extra={"unit": "duration"})]
"""Seconds; written `15m` by users."""

Size = Annotated[int, Meta(extra={"unit": "size"})]
"""Bytes; written `256MB` by users."""


class CaptureSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a capture does and how; a value that may not be is a `SettingError`."""

    gateway: Annotated[str, Meta(description="Address of the Client Portal Gateway's Web API, http or https.")] = (
        "https://localhost:5000/v1/api"
    )
    ca: Annotated[Path | None, Meta(description="Certificate file that vouches for the gateway's certificate.")] = None
    insecure: Annotated[bool, Meta(description="Accept any certificate; for a gateway on this machine.")] = False
    login: Annotated[bool, Meta(description="Open the brokerage session if the gateway has none.")] = False
    compete: Annotated[
        bool, Meta(description="With login: take over from another trading session of the same user.")
    ] = False
    conid: Annotated[
        tuple[str, ...], Meta(description="Contracts: 265598, or 265598@NYSE for one exchange, or a combo's legs.")
    ] = ()
    symbol: Annotated[
        tuple[str, ...], Meta(description="Stocks by symbol: IBM, or AAPL:NASDAQ with the exchange of its listing.")
    ] = ()
    account: Annotated[
        tuple[str, ...], Meta(description="Accounts, for topics that are asked for by account; empty: all there are.")
    ] = ()
    topic: Annotated[tuple[str, ...], Meta(description="Topics to subscribe to.")] = ("market_data", "orders", "pnl")
    field: Annotated[
        tuple[str, ...],
        Meta(description="Market-data fields by name or id; empty: a set of quote, trade and volume fields."),
    ] = ()
    depth_conid: Annotated[
        tuple[str, ...], Meta(description="Contracts of the price ladder, one an account; empty: those of conid.")
    ] = ()
    bars_period: Annotated[str, Meta(description="How far back bars go: 30min, 2h, 5d, 2w, 6m or 1y.")] = "2h"
    bars_bar: Annotated[str, Meta(description="Length of a bar: 1min, 5min, 1h, 1d, 1w or 1m.")] = "1min"
    data: Annotated[Path, Meta(description="Folder of the archive.")] = Path("data")
    recorder_name: Annotated[
        str, Meta(description="Name of this recorder; two captures into one archive need two names.")
    ] = "main"
    day_boundary: Annotated[
        str, Meta(description="Where a day begins: a time and a zone; counts only when an archive is made.")
    ] = "00:00 UTC"
    flush_every: Annotated[Duration, Meta(description="Write Parquet this often.")] = 3_600.0
    flush_frames: Annotated[int, Meta(description="Write Parquet sooner, once this many frames wait.")] = 500_000
    flush_bytes: Annotated[Size, Meta(description="Write Parquet sooner, once a journal segment is this big.")] = (
        512_000_000
    )
    write_within: Annotated[
        Duration, Meta(description="A frame reaches the operating system at most this long after its receipt.")
    ] = 0.05
    sync_every: Annotated[
        Duration, Meta(description="A frame reaches the disk at most this long after its receipt.")
    ] = 0.25
    journal_memory: Annotated[
        Size, Meta(description="Frames not yet written may take this much memory; then reading pauses.")
    ] = 256_000_000
    renew_every: Annotated[Duration, Meta(description="Renew market-data subscriptions this often.")] = 480.0
    tickle_every: Annotated[Duration, Meta(description="Keep the gateway's session alive this often.")] = 60.0
    heartbeat_timeout: Annotated[Duration, Meta(description="No heartbeat for this long means a dead connection.")] = (
        25.0
    )
    stale_after: Annotated[
        Duration, Meta(description="No market data for this long is looked into: ask again, then connect again.")
    ] = 60.0
    reconnect_delay: Annotated[
        Duration, Meta(description="First wait before connecting again; it doubles with each failure.")
    ] = 1.0

    compact_after: Annotated[
        float | None,
        Meta(
            description="Compact finished dates this long after the day boundary, or never.",
            extra={"unit": "duration or never"},
        ),
    ] = 3_600.0

    http: Annotated[
        str, Meta(description="Serve a status page, health and metrics here, such as 127.0.0.1:8765; empty: do not.")
    ] = ""
    alert_command: Annotated[
        str, Meta(description="Command that is given alerts on its standard input; empty: none.")
    ] = ""
    alert_url: Annotated[str, Meta(description="Address to which alerts are posted as JSON; empty: none.")] = ""
    alert_every: Annotated[Duration, Meta(description="Alert at most this often; what is held back is told later.")] = (
        300.0
    )
    calendar: Annotated[
        str, Meta(description="Record in the sessions of this exchange only, such as XNYS or CMES; empty: always.")
    ] = ""
    wake_before: Annotated[Duration, Meta(description="With calendar: connect this long before the market opens.")] = (
        300.0
    )
    stay_after: Annotated[Duration, Meta(description="With calendar: stay this long after the market closed.")] = 300.0

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            check_setting(key, getattr(self, key))
        if self.insecure and self.ca is not None:
            raise SettingError("insecure and ca exclude each other", hint="leave one of them out")


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    allowed: str


def check_setting(key: str, value: object, *, where: str | None = None, given: object = None) -> None:
    """Raise a `SettingError` unless the setting may have this value.

    `where` says who set it (default: the key), `given` how it was written.
    """
    rule = _RULES.get(key)
    if rule is None:
        return
    for one in value if isinstance(value, tuple) else (value,):
        if not rule.holds(one):
            raise SettingError(f"{where or key}: {one if given is None else given!r} is not allowed", hint=rule.allowed)


def _is_day_boundary(text: str) -> bool:
    try:
        DayBoundary(text)
    except SettingError:
        return False
    return True


def _is_gateway(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return False


def http_address(text: str) -> tuple[str, int]:
    """Read `host:port`, `[::1]:8765`; a `SettingError` if it is none."""
    host, colon, port = text.rpartition(":")
    if not (colon and host.strip("[]") and port.isdecimal() and int(port) < _PORTS):
        raise SettingError(f"http: {text!r} is not an address", hint=_ADDRESS)
    return host.strip("[]"), int(port)


def _is_http_address(text: str) -> bool:
    try:
        return not text or bool(http_address(text))
    except SettingError:
        return False


def _is_command(text: str) -> bool:
    try:
        return not text or bool(shlex.split(text))
    except ValueError:  # a quotation mark without its other half
        return False


def _is_url(text: str) -> bool:
    return not text or _is_gateway(text)


def _matches(pattern: str) -> Callable[[str], bool]:
    return re.compile(pattern, re.ASCII).fullmatch  # type: ignore[return-value]


def _is_positive(value: float) -> bool:
    return value > 0


_PORTS: Final = 65_536
_ADDRESS: Final = "use host:port, such as 127.0.0.1:8765"
_LONGER_THAN_0: Final = _Rule(_is_positive, "use a duration longer than 0, such as 200ms, 3s, 15m or 8h")
_MORE_THAN_0: Final = _Rule(_is_positive, "use a number above 0")

_CONTRACTS: Final = _Rule(
    _matches(r"[0-9]+(@[A-Za-z0-9._]+)?|[0-9]+;\S+"), "use contract ids, such as 265598, 265598@NYSE or a combo's"
)

_RULES: Final[Mapping[str, _Rule]] = {
    "gateway": _Rule(_is_gateway, "use an http or https address, such as https://localhost:5000/v1/api"),
    "conid": _CONTRACTS,
    "symbol": _Rule(
        _matches(r"[A-Za-z0-9./ -]+(:[A-Za-z0-9._]+)?"), "use symbols, such as IBM or AAPL:NASDAQ with its listing"
    ),
    "account": _Rule(_matches(r"[A-Za-z0-9]+"), "use account ids, such as DU1000001"),
    "depth_conid": _CONTRACTS,
    "bars_period": _Rule(_matches(r"[1-9][0-9]{0,3}(min|h|d|w|m|y)"), "use 30min, 2h, 5d, 2w, 6m or 1y"),
    "bars_bar": _Rule(
        _matches(r"(1|2|3|5|10|15|30)min|(1|2|3|4|8)h|1[dwm]"),
        "use 1min, 2min, 3min, 5min, 10min, 15min, 30min, 1h, 2h, 3h, 4h, 8h, 1d, 1w or 1m",
    ),
    "topic": _Rule(_matches(r"[a-z][a-z_]*"), "use topic names, such as market_data, orders or pnl"),
    "field": _Rule(_matches(r"[a-z0-9_]+"), "use names or ids from `recorder fields`, such as last_price or 84"),
    "recorder_name": _Rule(_matches(r"[a-z0-9_-]{1,32}"), "use 1 to 32 of the characters a-z, 0-9, _ and -"),
    "day_boundary": _Rule(_is_day_boundary, "use a time and a zone, such as '00:00 UTC' or '17:00 America/Chicago'"),
    "flush_every": _LONGER_THAN_0,
    "flush_frames": _MORE_THAN_0,
    "flush_bytes": _MORE_THAN_0,
    "write_within": _LONGER_THAN_0,
    "sync_every": _LONGER_THAN_0,
    "journal_memory": _MORE_THAN_0,
    "renew_every": _LONGER_THAN_0,
    "tickle_every": _LONGER_THAN_0,
    "heartbeat_timeout": _LONGER_THAN_0,
    "stale_after": _LONGER_THAN_0,
    "reconnect_delay": _LONGER_THAN_0,
    "compact_after": _Rule(lambda value: value is None or value > 0, "use a duration, such as 1h, or never"),
    "http": _Rule(_is_http_address, _ADDRESS),
    "alert_command": _Rule(_is_command, "use a command with its arguments, quoted as in a shell"),
    "alert_url": _Rule(_is_url, "use an http or https address"),
    "alert_every": _LONGER_THAN_0,
    "calendar": _Rule(_matches(r"|[A-Za-z0-9/_]+"), "use an exchange's code, such as XNYS, XLON or CMES"),
    "wake_before": _LONGER_THAN_0,
    "stay_after": _LONGER_THAN_0,
}
