"""The frames a gateway sends of its own accord when a socket opens, in the shapes seen in captures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

SERVER: Mapping[str, str] = {"serverName": "JifX00000", "serverVersion": "Build 10.00.0a"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is logged in at the emulated gateway. `session` is the token of `/tickle`, the cookie and `tic`."""

    session: str
    accounts: tuple[str, ...] = ("DU1000001",)
    username: str = "trader01"
    user_id: int = 10_000_001
    act_session: str = "6a00aa00.00000001"  # not the token: `act` names another one (seen in captures)


def frame(content: Mapping[str, object]) -> bytes:
    """Write a frame."""
    return msgspec.json.encode(content)


def system_frame(identity: Identity) -> bytes:
    """Write the first frame of a good socket."""
    return frame({"topic": "system", "success": identity.username, "isFT": False, "isPaper": True})


def sts_frame(identity: Identity, *, authenticated: bool = True, competing: bool = False) -> bytes:
    """Write the state of the brokerage session."""
    args = {
        "authenticated": authenticated,
        "connected": True,
        "established": authenticated,
        "competing": competing,
        "message": "",
        "fail": "",
        **SERVER,
        "username": identity.username,
    }
    return frame({"topic": "sts", "args": args})


def refusal_frame(topic: str) -> bytes:
    """Write the refusal of a subscription, as it was seen for `sor` after a reconnect."""
    return frame({"error": "unable to subscribe", "code": 500, "topic": topic})


def act_frame(identity: Identity) -> bytes:
    """Write the account frame; its keys are the broker's documented ones."""
    flags = ("hasChildAccounts", "supportsCashQty", "noFXConv", "isProp", "supportsFractions", "allowCustomerTime")
    args = {
        "accounts": identity.accounts,
        "acctProps": {account: dict.fromkeys(flags, False) for account in identity.accounts},
        "aliases": {account: account for account in identity.accounts},
        "allowFeatures": {"showGFIS": True, "snapshotRefreshTimeout": 30, "allowedAssetTypes": "STK,FUT,CASH,IND"},
        "chartPeriods": {"STK": ["*"], "FUT": ["*"], "CASH": ["*"]},
        "groups": [],
        "profiles": [],
        "selectedAccount": identity.accounts[0],
        "serverInfo": SERVER,
        "sessionId": identity.act_session,
        "isFT": False,
        "isPaper": True,
    }
    return frame({"topic": "act", "args": args})
