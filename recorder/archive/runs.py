"""Runs: consecutive commits of a session and date, and the one commit that takes their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from recorder.archive.catalog import FramesPart
from recorder.archive.commit import Commit, PartitionInfo
from recorder.archive.covered import covers
from recorder.archive.layout import PartName

Infos = dict[tuple[PartName, str], PartitionInfo]
"""What is in a merged part, by the frames that it covers and by partition."""


class Run(NamedTuple):
    """Commits of one session and date that follow one another; a clock that stepped may have parted them."""

    parts: list[FramesPart]
    commits: list[Commit]

    @property
    def name(self) -> PartName:
        """The name of the frames part that replaces them."""
        return PartName(self.commits[0].session, self.commits[0].first, self.commits[-1].last)

    def answers_for(self, name: PartName, key: str) -> bool:
        """Say whether a typed part of a partition holds rows of these commits."""
        own = self.name
        return (
            own.session == name.session
            and own.first <= name.first
            and name.last <= own.last
            and any(covers(name, commit) and key in commit.partitions for commit in self.commits)
        )


def merge_commits(run: Run, *, digest: str, infos: Infos) -> Commit:
    """Make one commit of consecutive ones."""
    commits = run.commits
    keys = {key for commit in commits for key in commit.partitions}
    return msgspec.structs.replace(
        commits[-1],
        first=commits[0].first,
        digest=digest,
        kinds=_sums(commit.kinds for commit in commits),
        claimed=_sums(commit.claimed for commit in commits),
        unclaimed=sum(commit.unclaimed for commit in commits),
        undecoded=_sums(commit.undecoded for commit in commits),
        partitions={key: infos[run.name, key] for key in sorted(keys)},
        topics={
            topic: fingerprint
            for topic, fingerprint in commits[-1].topics.items()
            if all(commit.topics.get(topic) == fingerprint for commit in commits)
        },
        ts_min=min(commit.ts_min for commit in commits),
        ts_max=max(commit.ts_max for commit in commits),
        late=_joined(run for commit in commits for run in commit.late),
    )


def _sums(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total


def _joined(runs: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join runs of late frames that a commit's end had parted."""
    joined: list[tuple[int, int, int]] = []
    for first, last, highest in runs:
        if joined and joined[-1][1:] == (first - 1, highest):
            joined[-1] = (joined[-1][0], last, highest)
        else:
            joined.append((first, last, highest))
    return joined


def find_runs(parts: Sequence[FramesPart]) -> list[Run]:
    """Group a date's frames parts, which are in order, by what follows one another."""
    runs: list[Run] = []
    for part in parts:
        commit = part.commit()
        if runs and (runs[-1].name.session, runs[-1].name.last + 1) == (commit.session, commit.first):
            runs[-1].parts.append(part)
            runs[-1].commits.append(commit)
        else:
            runs.append(Run([part], [commit]))
    return runs
