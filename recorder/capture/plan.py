"""The plan: which streams the settings ask for."""

from __future__ import annotations

from recorder.capture.settings import CaptureSettings
from recorder.errors import UsageError
from recorder.protocol.fields import field_ids
from recorder.protocol.subscriptions import Stream, streams_of
from recorder.protocol.topics import Topics


def plan_streams(settings: CaptureSettings, topics: Topics) -> list[Stream]:
    """List what the settings ask for; a `UsageError` names what cannot be asked for."""
    chosen = [topics[name] for name in settings.topic]
    for topic in chosen:
        if topic.subscription is None:
            raise UsageError(
                f"topic {topic.name} cannot be subscribed to", hint="leave it out: it comes by itself and is recorded"
            )
        if topic.subscription.per == "contract" and not settings.conid:
            raise UsageError(
                f"topic {topic.name} needs contracts",
                hint="name them with --conid 265598,8314, or choose other topics with --topic",
            )
    market_data = topics["market_data"]
    fields = field_ids(market_data, settings.field) if settings.field else market_data.default_fields
    return streams_of(chosen, targets=settings.conid, fields=fields)
