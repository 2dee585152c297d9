"""The gateway's REST side: the few calls that a recorder makes, and what their failures mean."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from recorder.errors import GatewayAway, GatewayError, SettingError
from recorder.protocol.pacing import Pacer

ORDERS: Final = "/iserver/account/orders"
ACCOUNTS: Final = "/iserver/accounts"
CONTRACTS: Final = "/trsrv/secdef"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=15, connect=4)
_UNAUTHORIZED: Final = 401
_TOO_MANY: Final = 429


class Tickle(msgspec.Struct, frozen=True):
    """What `/tickle` says: the session token, and the state of the brokerage session (None: not said)."""

    session: str
    authenticated: bool | None
    competing: bool | None


def tls_context(base_url: str, *, ca: Path | None, insecure: bool) -> ssl.SSLContext | None:
    """Make the TLS settings for a gateway; None for plain http. `SettingError` if the CA file cannot be used."""
    if urlsplit(base_url).scheme != "https":
        return None
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ssl.SSLError) as exc:
        raise SettingError(
            f"ca: {ca} cannot be used: {exc}", hint="name a PEM file with the gateway's certificate"
        ) from exc
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Rest:
    """A client of the gateway's REST calls, for one capture.

    Every method raises `GatewayError` when the gateway refuses, or answers what no gateway answers, and `GatewayAway`
    when nobody answers. Calls wait for their turn, so that none is above the broker's limits.
    """

    def __init__(self, base_url: str, *, tls: ssl.SSLContext | None) -> None:
        self.base_url = base_url.rstrip("/")
        self._pacer = Pacer()
        self._now = asyncio.get_running_loop().time
        # Without `unsafe`, aiohttp drops cookies of a gateway that is reached by its IP address.
        self._http = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(ssl=True if tls is None else tls),
            timeout=_TIMEOUT,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    def cookies(self) -> dict[str, str]:
        """Give the cookies that the gateway has set."""
        return {cookie.key: cookie.value for cookie in self._http.cookie_jar}

    @property
    def tickle_barred(self) -> bool:
        """Whether the broker has refused `/tickle` for too many calls: then the last token has to do."""
        return self._pacer.barred("/tickle", self._now()) is not None

    @property
    def accounts_barred(self) -> bool:
        """Whether the broker has refused to list the accounts for too many calls."""
        return self._pacer.barred(ACCOUNTS, self._now()) is not None

    async def tickle(self) -> Tickle:
        """Keep the session alive and learn its token."""
        answer = await self._json("POST", "/tickle")
        session = answer.get("session")
        if type(session) is not str:
            raise GatewayError(f"{self.base_url}/tickle names no session", hint=self._login_hint())
        status = _inside(_inside(answer, "iserver"), "authStatus")
        return Tickle(session, status.get("authenticated"), status.get("competing"))

    async def accounts(self) -> None:
        """Ask for the accounts: the gateway wants this before orders and market data."""
        await self._json("GET", ACCOUNTS)

    async def portfolio_accounts(self) -> tuple[str, ...]:
        """List the accounts of the login; needs no brokerage session (the broker's document)."""
        accounts = self._read(await self._bytes("GET", "/portfolio/accounts"), "/portfolio/accounts")
        rows = accounts if type(accounts) is list else []
        ids = [str(row["accountId"]) for row in rows if type(row) is dict and row.get("accountId")]
        if not ids:
            raise GatewayError(f"{self.base_url}/portfolio/accounts names no accounts", hint=self._login_hint())
        return tuple(ids)

    async def stocks(self, symbols: Sequence[str]) -> dict[str, Any]:
        """Find stocks by symbol: names with their contracts, by symbol; needs no brokerage session."""
        return await self._json("GET", f"/trsrv/stocks?symbols={quote(','.join(symbols), safe=',')}")

    async def contracts(self, conids: Sequence[int]) -> bytes:
        """Look contracts up, as a recorded REST answer: request line, newline, body; needs no brokerage session."""
        path = f"{CONTRACTS}?conids={','.join(map(str, conids))}"
        return f"GET {path}\n".encode() + await self._bytes("GET", path)

    async def log_in(self, *, compete: bool) -> None:
        """Open the brokerage session (`ssodh/init`). With `compete` it takes it from the user's other programs."""
        await self._json("POST", "/iserver/auth/ssodh/init", {"publish": True, "compete": compete})

    async def orders(self) -> bytes:
        """Take a snapshot of today's orders, as a recorded REST answer: request line, newline, body.

        The first answer of a session is not primed and says so (`"snapshot":false`).
        """
        return f"GET {ORDERS}\n".encode() + await self._bytes("GET", ORDERS)

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = self._read(await self._bytes(method, path, body), path)
        if type(answer) is not dict:
            raise GatewayError(f"{self.base_url}{path} answers something else than an object")
        return answer

    def _read(self, data: bytes, path: str) -> Any:
        try:
            return msgspec.json.decode(data)
        except msgspec.DecodeError as exc:
            raise GatewayError(f"{self.base_url}{path} answers what is not JSON", hint=self._address_hint()) from exc

    async def _bytes(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        url = self.base_url + path
        await self._turn(path)
        try:
            async with self._http.request(method, url, json=body, headers={"User-Agent": "ibkr-recorder"}) as response:
                data = await response.read()
        except aiohttp.ClientConnectorCertificateError as exc:
            raise GatewayError(
                f"the certificate of {self.base_url} is not trusted",
                hint="a gateway's own certificate is self-signed: name it with --ca FILE, or use --insecure",
            ) from exc
        except TimeoutError as exc:
            raise GatewayAway(f"{url} did not answer in time", hint=self._address_hint()) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise GatewayAway(f"no gateway at {self.base_url}: {_reason(exc)}", hint=self._address_hint()) from exc
        if response.status == _UNAUTHORIZED:
            raise GatewayError(f"the gateway at {self.base_url} is not logged in", hint=self._login_hint())
        if response.status == _TOO_MANY:
            aside = self._pacer.bar(path, self._now())
            raise GatewayError(f"{method} {url} was called too often; it is left alone for {aside / 60:g} min")
        self._pacer.answered(path)
        if response.status >= 400:  # noqa: PLR2004  HTTP's own limit
            raise GatewayError(f"{method} {url} failed with HTTP {response.status}{_error_of(data)}")
        return data

    async def _turn(self, path: str) -> None:
        """Wait until a call may be made; `GatewayError` if the broker has barred it for a time."""
        barred = self._pacer.barred(path, self._now())
        if barred is not None:
            raise GatewayError(f"{self.base_url}{path} was called too often; it is left alone for {barred:.0f} s yet")
        await asyncio.sleep(self._pacer.reserve(path, self._now()))

    def _login_hint(self) -> str:
        address = urlsplit(self.base_url)
        return f"log in at {address.scheme}://{address.netloc}/ in a browser, then start again"

    def _address_hint(self) -> str:
        return "start the Client Portal Gateway and log in, or name its address with --gateway URL"


def _inside(answer: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Give what an answer holds under a key; empty if it is no object, `{"error": …}` in its place say."""
    value = answer.get(key)
    return value if type(value) is dict else {}


def _error_of(body: bytes) -> str:
    """Give the `error` of an answer, which is the broker's own text; the rest of a body may hold what is private."""
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    error = said.get("error") if type(said) is dict else None
    return f": {error}" if type(error) is str else ""


def _reason(exc: BaseException) -> str:
    cause: Any = getattr(exc, "os_error", exc)
    number = getattr(cause, "errno", None)
    if type(number) is int and number > 0:
        return os.strerror(number)  # asyncio's own text names the address once more, and not what happened
    return str(getattr(cause, "strerror", None) or cause or type(exc).__name__)
