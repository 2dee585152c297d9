"""How a bad night is written, and what chance makes of one."""

from __future__ import annotations

import random
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.cli.fault_script import read_faults, script_of
from recorder.errors import UsageError
from recorder.replay.faults import KINDS, Fault, clash, random_faults, variants


def test_a_script_names_faults_with_options_lengths_and_times() -> None:
    """What is left out has a default; the order is that of the times."""
    faults = read_faults("silence=265598 : 90s @ 2m, disconnect@30s, rest=429@3m, burst=7@1500ms", seed=0)

    assert list(faults) == [
        Fault(kind="burst", option="7", at=1.5),
        Fault(kind="disconnect", option="clean", at=30.0),
        Fault(kind="silence", option="265598", at=120.0, lasts=90.0),
        Fault(kind="rest", option="429", at=180.0, lasts=20.0),
    ]


def test_a_file_says_the_same(tmp_path: Path) -> None:
    """One table a fault."""
    path = tmp_path / "night.toml"
    path.write_text(
        '[[fault]]\nkind = "silence"\noption = 265598\nlength = "90s"\nat = "2m"\n[[fault]]\nkind = "away"\nat = "1s"\n'
    )

    assert read_faults("silence=265598:90s@2m,away@1s", seed=0) == read_faults(str(path), seed=0)


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        ("earthquake@3s", "unknown fault 'earthquake'", "known are disconnect, silence, freeze, "),
        ("disconnect", "'disconnect' is no fault with a time", "write KIND@TIME"),
        ("", "'' is no fault with a time", "write KIND@TIME"),
        ("disconnect=softly@3s", "disconnect has no option 'softly'", "use clean, abrupt, mid-frame"),
        ("silence=everything@3s", "silence has no option 'everything'", "use all, one, a contract id"),
        ("freeze=5@3s", "freeze has no option '5'", "leave it out"),
        ("rollover:3s@3s", "rollover has no length", "leave out '3s'"),
        ("away:3@3s", "away: '3' has no unit", "write a number with its unit"),
        ("away:0s@3s", "away: '0s' is not longer than 0", "write KIND@TIME"),
        ("away:3s@soon", "away: 'soon' is not a duration", "write a number with its unit"),
        ("deauth:10s@1s,competing@5s", "competing begins before deauth is over", "let them follow each other"),
        ("random:", "'random:' is not understood", "write random:rate=1/2m"),
        ("random:rate=2m", "'random:rate=2m' is not understood", "write random:rate=1/2m"),
        ("random:rate=1/2m,kinds=all", "is not understood", "write random:rate=1/2m"),
        ("random:rate=1/0s", "rate: '0s' is not longer than 0", "write"),
        ("no/such/file.toml", "no/such/file.toml: No such file or directory", "name a TOML file"),
    ],
)
def test_a_mistake_is_named_with_what_is_known(script: str, message: str, hint: str) -> None:
    """One line, and one with what to do."""
    with pytest.raises(UsageError) as caught:
        read_faults(script, seed=0)

    assert str(caught.value).startswith("--faults: ")
    assert message in str(caught.value)
    assert (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize(
    "text", ["x = 1", "fault = []", '[[fault]]\nkind = "away"', '[[fault]]\nat = "1s"\nof = 3', "["]
)
def test_a_file_that_says_something_else_is_named(tmp_path: Path, text: str) -> None:
    """With what it may hold."""
    path = tmp_path / "night.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_faults(str(path), seed=0)

    assert str(caught.value).startswith(f"--faults: {path}: ")


def test_the_same_seed_gives_the_same_night() -> None:
    """And another one another."""
    nights = [list(islice(read_faults("random:rate=1/2m,length=5s", seed=seed), 50)) for seed in (7, 7, 8)]

    assert nights[0] == nights[1] != nights[2]


@given(seed=st.integers(), every=st.floats(0.1, 1000), length=st.floats(0.1, 1000), decks=st.integers(1, 3))
def test_chance_brings_every_fault_and_never_two_at_once(seed: int, every: float, length: float, decks: int) -> None:
    """Each deck holds every variant once; one fault is over before the next begins."""
    whole = variants()
    faults = list(islice(random_faults(random.Random(seed), every_s=every, length_s=length), decks * len(whole)))

    assert sorted(whole * decks, key=str) == sorted(((one.kind, one.option) for one in faults), key=str)
    assert all(before.end <= after.at + 0.002 for before, after in pairwise(faults))
    assert [KINDS[one.kind].lasts for one in faults] == [one.lasts > 0 for one in faults]


@pytest.mark.parametrize("seed", range(5))
def test_a_script_that_was_written_is_read_as_it_was_meant(seed: int, tmp_path: Path) -> None:
    """To the millisecond."""
    faults = list(islice(random_faults(random.Random(seed), every_s=60, length_s=20), 40))
    path = tmp_path / "night.toml"
    path.write_text(script_of(faults))

    assert faults == read_faults(str(path), seed=0)
    assert clash(faults) is None
