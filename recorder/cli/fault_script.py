"""Fault scripts: how a bad night is written: `disconnect@30s, silence:20s@2m`, a TOML file, or `random:rate=1/2m`."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from recorder.cli.durations import parse_duration
from recorder.errors import UsageError
from recorder.replay.faults import KINDS, LENGTH_S, Fault, Kind, clash, random_faults

HOW: Final = "write KIND@TIME or KIND=OPTION:LENGTH@TIME, such as disconnect@30s or silence=one:20s@2m"
HOW_RANDOM: Final = "write random:rate=1/2m or random:rate=1/2m,length=20s"

_FAULT: Final = re.compile(
    r"(?P<kind>[^=:@\s]+)\s*(?:=\s*(?P<option>[^:@]+?))?\s*(?::\s*(?P<length>[^@]+?))?\s*(?:@\s*(?P<at>.+))?", re.ASCII
)
_RATE: Final = re.compile(r"1/(.+)", re.ASCII)
_COUNT: Final = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class _Row(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A `[[fault]]` of a TOML file."""

    kind: str
    at: str
    option: str | int | None = None
    length: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    fault: Annotated[list[_Row], msgspec.Meta(min_length=1)]


def read_faults(script: str, *, seed: int) -> Iterable[Fault]:
    """Read a script, or the TOML file that it names; faults come in the order of their times.

    `random:…` gives faults without end, the same for the same seed. A `UsageError` names what is wrong.
    """
    script = script.strip()
    if script.startswith("random:"):
        return _random(script.removeprefix("random:"), seed)
    if script.endswith(".toml"):
        rows = _rows(Path(script))
        faults = [_fault(row.kind, row.option, row.length, row.at) for row in rows]
    else:
        faults = [_written(text.strip()) for text in script.split(",")]
    pair = clash(faults)
    if pair is not None:
        raise UsageError(
            f"--faults: {pair[1].name} begins before {pair[0].name} is over",
            hint="let them follow each other: both turn the same thing",
        )
    return sorted(faults, key=lambda fault: fault.at)


def _random(text: str, seed: int) -> Iterable[Fault]:
    given = dict(part.strip().partition("=")[::2] for part in text.split(","))
    unknown = given.keys() - {"rate", "length"}
    rate = _RATE.fullmatch(given.get("rate", ""))
    if unknown or rate is None:
        raise UsageError(f"--faults: 'random:{text}' is not understood", hint=HOW_RANDOM)
    every = _positive(rate[1], of="rate")
    length = _positive(given["length"], of="length") if "length" in given else LENGTH_S
    return random_faults(random.Random(seed), every_s=every, length_s=length)


def _rows(path: Path) -> list[_Row]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=_File).fault
    except OSError as exc:
        raise UsageError(f"--faults: {path}: {exc.strerror}", hint="name a TOML file with [[fault]] tables") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"--faults: {path}: {exc}", hint="each [[fault]] has kind and at, and may have option and length"
        ) from exc


def _written(text: str) -> Fault:
    found = _FAULT.fullmatch(text)
    if found is None or found["at"] is None:
        raise UsageError(f"--faults: {text!r} is no fault with a time", hint=HOW)
    return _fault(found["kind"], found["option"], found["length"], found["at"])


def _fault(kind: str, option: str | int | None, length: str | None, at: str) -> Fault:
    known = KINDS.get(kind)
    if known is None:
        raise UsageError(f"--faults: unknown fault {kind!r}", hint=f"known are {', '.join(KINDS)}")
    if length is not None and not known.lasts:
        raise UsageError(f"--faults: {kind} has no length", hint=f"leave out {length!r}")
    lasts = 0.0
    if known.lasts:
        lasts = LENGTH_S if length is None else _positive(length, of=kind)
    return Fault(kind=kind, option=_option(kind, known, option), at=_duration(at, of=kind), lasts=lasts)


def _option(kind: str, known: Kind, given: str | int | None) -> str | None:
    if given is None:
        return known.options[0] if known.options else None
    text = str(given)
    if text in known.options or (known.free is not None and _COUNT.fullmatch(text)):
        return text
    allowed = ", ".join((*known.options, *([known.free] if known.free else [])))
    raise UsageError(f"--faults: {kind} has no option {text!r}", hint=f"use {allowed}" if allowed else "leave it out")


def _positive(text: str, *, of: str) -> float:
    seconds = _duration(text, of=of)
    if seconds <= 0:
        raise UsageError(f"--faults: {of}: {text!r} is not longer than 0", hint=HOW)
    return seconds


def _duration(text: str, *, of: str) -> float:
    try:
        return parse_duration(text)
    except UsageError as exc:
        raise UsageError(f"--faults: {of}: {exc}", hint=exc.hint) from exc


def script_of(faults: Iterable[Fault]) -> str:
    """Write faults as a TOML file that `read_faults` reads."""
    rows: list[Mapping[str, Any]] = []
    for fault in faults:
        row: dict[str, Any] = {"kind": fault.kind, "at": f"{fault.at:.3f}s"}
        if fault.option is not None:
            row["option"] = fault.option
        if fault.lasts:
            row["length"] = f"{fault.lasts:.3f}s"
        rows.append(row)
    return "".join("[[fault]]\n" + "".join(f'{key} = "{value}"\n' for key, value in row.items()) + "\n" for row in rows)
