"""Look-ups before a capture: the accounts and the contracts that its settings leave to the gateway."""

from __future__ import annotations

import logging

import msgspec

from recorder.capture.contracts import resolve
from recorder.capture.plan import check_topics, needs_accounts
from recorder.capture.rest import Rest, tls_context
from recorder.capture.settings import CaptureSettings
from recorder.protocol.topics import Topics

_log = logging.getLogger(__name__)


async def looked_up(settings: CaptureSettings, topics: Topics) -> CaptureSettings:
    """Give the settings with their symbols as contracts, and with all accounts if a topic needs some and none is named.

    An account that is named and not the login's is a warning: the broker would say nothing about it. The calls need a
    login, but no brokerage session. `UsageError` for what cannot be asked for, or a symbol that is not one contract;
    `GatewayError` as of REST.
    """
    check_topics(settings, topics)
    if not settings.symbol and not needs_accounts(settings, topics):
        return settings
    rest = Rest(settings.gateway, tls=tls_context(settings.gateway, ca=settings.ca, insecure=settings.insecure))
    try:
        await rest.tickle()
        accounts = await _accounts(rest, settings) if needs_accounts(settings, topics) else settings.account
        conids = await resolve(rest, settings.symbol)
    finally:
        await rest.close()
    every = tuple(dict.fromkeys((*settings.conid, *conids)))
    return msgspec.structs.replace(settings, account=accounts, conid=every, symbol=())


async def _accounts(rest: Rest, settings: CaptureSettings) -> tuple[str, ...]:
    known = await rest.portfolio_accounts()
    if any(account not in known for account in settings.account):
        _log.warning("an account of --account is none of the %s that this login has", len(known))
    return settings.account or known
