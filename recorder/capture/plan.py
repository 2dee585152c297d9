"""The plan: which streams the settings ask for."""

from __future__ import annotations

from collections.abc import Sequence

from recorder.capture.settings import CaptureSettings
from recorder.errors import UsageError
from recorder.protocol.fields import field_ids
from recorder.protocol.stream_plan import Stream, streams_of
from recorder.protocol.topics import Subscription, Topic, Topics


def check_topics(settings: CaptureSettings, topics: Topics) -> None:
    """Raise a `UsageError` if what the settings ask for cannot be asked for, whatever the gateway knows."""
    for topic in _chosen(settings, topics):
        if topic.subscription is None:
            raise UsageError(
                f"topic {topic.name} cannot be subscribed to", hint="leave it out: it comes by itself and is recorded"
            )
        if topic.subscription.per == "contract" and not (_targets(settings, topic.subscription) or settings.symbol):
            raise UsageError(
                f"topic {topic.name} needs contracts",
                hint="name them with --conid 265598,8314, or choose other topics with --topic",
            )
    _fields(settings, topics)


def needs_accounts(settings: CaptureSettings, topics: Topics) -> bool:
    """Say whether a topic is asked for by account."""
    asked = [topic.subscription for topic in _chosen(settings, topics) if topic.subscription is not None]
    return any(one.per == "account" or one.one_an_account for one in asked)


def plan_streams(settings: CaptureSettings, topics: Topics) -> list[Stream]:
    """List what the settings ask for; accounts and symbols have been looked up. `UsageError` if it cannot be."""
    check_topics(settings, topics)
    streams: list[Stream] = []
    for topic in _chosen(settings, topics):
        assert topic.subscription is not None, "checked"
        targets = _targets(settings, topic.subscription)
        if topic.subscription.one_an_account and len(targets) > len(settings.account):
            raise UsageError(
                f"topic {topic.name}: {len(targets)} contracts, {_accounts(settings.account)}; each has one ladder",
                hint="name the contracts with the setting depth_conid: RECORDER_DEPTH_CONID=265598",
            )
        streams += streams_of(
            [topic],
            targets=targets,
            fields=_fields(settings, topics),
            accounts=settings.account,
            values={"bars_period": settings.bars_period, "bars_bar": settings.bars_bar},
        )
    return streams


def _chosen(settings: CaptureSettings, topics: Topics) -> list[Topic]:
    return [topics[name] for name in settings.topic]


def _targets(settings: CaptureSettings, asked: Subscription) -> Sequence[str]:
    return settings.depth_conid or settings.conid if asked.one_an_account else settings.conid


def _fields(settings: CaptureSettings, topics: Topics) -> Sequence[str]:
    market_data = topics["market_data"]
    return field_ids(market_data, settings.field) if settings.field else market_data.default_fields


def _accounts(accounts: Sequence[str]) -> str:
    return "1 account" if len(accounts) == 1 else f"{len(accounts)} accounts"
