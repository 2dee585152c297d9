"""The metrics of a capture, as Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from recorder.capture.status import Status
from recorder.capture.verdict import problems
from recorder.protocol.ledger import INFORMATION

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECOND: Final = 1_000_000


def metrics_text(status: Status, *, now: int) -> bytes:
    """Write a status at `now` (µs) in Prometheus' text format; no label names an account."""
    registry = CollectorRegistry()
    registry.register(_Look(status, now))
    return generate_latest(registry)


class _Look(Collector):
    def __init__(self, status: Status, now: int) -> None:
        self._status = status
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from self._capture()
        yield from self._topics()
        yield from self._journal()
        yield from self._gaps()

    def _capture(self) -> Iterator[Metric]:
        status = self._status
        yield self._gauge("healthy", "1 if nothing is wrong.", not problems(status, self._now))
        yield self._gauge("connected", "1 while there is a connection to the gateway.", status.connected)
        yield self._gauge("logged_in", "1 while there is a brokerage session.", status.logged_in)
        yield self._counter("frames", "Received frames.", status.received)
        yield self._counter("journaled_bytes", "Bytes of all frames journaled.", status.journaled_bytes)
        yield self._counter("reconnects", "Connections after the first.", max(0, status.connections - 1))
        yield self._counter("unclaimed_frames", "Archived frames that no topic claims.", status.unclaimed)
        yield self._counter("undecoded_frames", "Archived frames, or items of them, without a row.", status.undecoded)
        yield self._counter("failed_alerts", "Alerts that could not be delivered.", status.failed_alerts)
        if status.last_frame is not None:
            yield self._gauge("last_frame_timestamp_seconds", "When a frame came last.", status.last_frame / _SECOND)

    def _topics(self) -> Iterator[Metric]:
        topics = self._status.topics
        yield self._counter("rows", "Decoded rows, by topic.", {one.topic: one.rows for one in topics})
        yield self._gauge("topic_rate", "Frames a second, by topic.", {one.topic: one.rate for one in topics})
        heard = {one.topic: one.last / _SECOND for one in topics if one.last is not None}
        yield self._gauge("topic_last_frame_timestamp_seconds", "When a frame came last, by topic.", heard)

    def _journal(self) -> Iterator[Metric]:
        status = self._status
        yield self._gauge("write_lag_seconds", "Longest time from receipt to the system, last second.", status.lag)
        yield self._gauge("unwritten_bytes", "Bytes received and not yet written.", status.unwritten_bytes)
        yield self._gauge("journal_bytes", "Bytes in the journal and not in Parquet.", status.unflushed_bytes)
        yield self._gauge("journal_frames", "Frames in the journal and not in Parquet.", status.unflushed_frames)
        yield self._counter("flushes", "Segments written to Parquet.", status.flushes)
        if status.flush_took is not None:
            yield self._gauge("flush_seconds", "What the last flush took.", status.flush_took)
        if status.last_flush is not None:
            yield self._gauge("last_flush_timestamp_seconds", "When a flush ended last.", status.last_flush / _SECOND)
        if status.space is not None:
            yield self._gauge("disk_free_bytes", "Bytes free on the archive's disk.", status.space.free)
            if status.space.per_day is not None:
                yield self._gauge("disk_bytes_per_day", "Bytes that a day takes.", status.space.per_day)

    def _gaps(self) -> Iterator[Metric]:
        gaps = [gap for gap in self._status.gaps if gap.cause not in INFORMATION]
        for name, doc, found in (
            ("gaps", "Gaps of the last 24 hours.", gaps),
            ("open_gaps", "Gaps that are open.", [gap for gap in gaps if gap.end is None]),
        ):
            family = GaugeMetricFamily(f"recorder_{name}", doc, labels=["recorder", "topic", "cause"])
            for (topic, cause), count in sorted(Counter((gap.topic, gap.cause) for gap in found).items()):
                family.add_metric([self._status.recorder, topic, cause], count)
            yield family

    def _gauge(self, name: str, doc: str, value: float | Mapping[str, float]) -> Metric:
        return self._filled(GaugeMetricFamily, name, doc, value)

    def _counter(self, name: str, doc: str, value: float | Mapping[str, float]) -> Metric:
        return self._filled(CounterMetricFamily, name, doc, value)

    def _filled(
        self,
        kind: type[GaugeMetricFamily | CounterMetricFamily],
        name: str,
        doc: str,
        value: float | Mapping[str, float],
    ) -> Metric:
        """Make a metric of one value, or of one a topic."""
        by_topic = isinstance(value, Mapping)
        family = kind(f"recorder_{name}", doc, labels=["recorder", "topic"] if by_topic else ["recorder"])
        for topic, one in value.items() if isinstance(value, Mapping) else [("", value)]:
            family.add_metric([self._status.recorder, *([topic] if by_topic else [])], float(one))
        return family
