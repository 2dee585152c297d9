"""Topics: what each file in `schemas/` says about one kind of frame."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, Literal

import msgspec

from recorder.errors import TopicFileError, UsageError

Parser = Literal[
    "price",
    "price_flag",
    "at_price",
    "at_size",
    "size",
    "number",
    "percent",
    "integer",
    "text",
    "flag",
    "time_us",
    "time_ms",
    "time_s",
    "time_text",
]
ArrowType = Literal["float64", "int64", "string", "bool", "timestamp"]

PARSER_TYPES: Final[Mapping[str, ArrowType]] = {
    "price": "float64",
    "price_flag": "string",
    "at_price": "float64",
    "at_size": "float64",
    "size": "float64",
    "number": "float64",
    "percent": "float64",
    "integer": "int64",
    "text": "string",
    "flag": "bool",
    "time_us": "timestamp",
    "time_ms": "timestamp",
    "time_s": "timestamp",
    "time_text": "timestamp",
}
RESERVED: Final = ("ts_recv", "ts_event", "session", "seq", "item", "extra", "date", "conid")


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value of a row.

    `key` is the key on the wire. A key that begins with `@` stands around the row, not in it: `@prefix` is the topic's
    prefix in the frame, `@source` is `stream` or `rest`, `@entry.0` and `@entry.1` are the parts of an entry's key,
    `@topic.1` is what follows the first plus of the frame's topic, `@frame.serverId` is a key of the frame beside its
    rows. `times` is the key of a number that the value has to be multiplied with.
    """

    name: str
    key: str
    parser: Parser
    doc: str
    times: str | None = None

    @property
    def type(self) -> ArrowType:
        """The Arrow type that the parser gives."""
        return PARSER_TYPES[self.parser]


class Subscription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the stream is asked for.

    `send` and `cancel` are templates with `{target}` (a contract as given by the user, `265598` or `265598@NYSE`),
    `{target+}` (the same as `265598+NYSE`), `{account}`, `{fields}` (a JSON list of field ids), and the settings
    `{bars_period}` and `{bars_bar}`. `per` says how many streams there are: one a `contract`, one an `account` or one a
    `session`; a stream of a contract with an account in it exists once an account. `renew` is true for streams that the
    broker ends by itself. `at_once` is for streams that answer once and stay open until they are cancelled: how many
    the broker lets be open; `cancel` is then filled with keys of the answer, `{serverId}`. `answered` is false for
    streams that stay silent until something changes.
    """

    send: str
    cancel: str
    per: Literal["contract", "account", "session"]
    brokerage: bool
    renew: bool = False
    answered: bool = True
    at_once: int = 0

    @property
    def one_an_account(self) -> bool:
        """Whether an account has one contract at a time."""
        return self.per == "contract" and "{account}" in self.send


class Conid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a row's contract is found: the first of `keys` that has one, then the frame's topic, then an earlier row.

    `topic` says which part of the frame's topic it is: 1 in `smd+8314`, 2 in `sbd+DU1000001+8314`, 0 none. `join` names
    the wire keys that tie a row without a contract to an earlier row that had one.
    """

    keys: tuple[str, ...] = ()
    topic: int = 0
    join: tuple[str, ...] = ()


class Rest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which recorded REST answers hold rows of this topic: the request path's end, and the key of the list of rows."""

    path: str
    payload: str


class Mark(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which of the recorder's own marks hold rows of this topic: those of this event."""

    event: str


class Topic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One topic, as its file says.

    `prefixes` are the wire topics up to the first `+`. `payload` is the key that holds the rows (None: the frame is
    the row). `rows` says what a row is: the whole payload (`frame`), each element of a list (`item`; a lone object
    counts as a list of one), or each entry of an object (`entry`; the entry's key is split at the first dot).
    `event_time` is the wire key of the broker's clock, written as `event_parser` says. `columns` become columns of the
    table.
    `fields` are known too, but rare: they stay in `extra` as text until a loader asks for one by name.
    `identity` names the columns that, with the contract, say what a row speaks of: values are carried forward within
    it. `whole` says that a row tells all: what is absent is empty, not unchanged, so nothing is carried forward.
    `revision_of` names the column that rows share which replace each other: of an execution that is sent again, the
    last row counts. `ignore` are envelope keys that repeat what the path or another column says.
    """

    name: str
    doc: str
    prefixes: tuple[str, ...]
    rows: Literal["frame", "item", "entry"]
    columns: tuple[Column, ...] = msgspec.field(name="column")
    payload: str | None = None
    event_time: str | None = None
    event_parser: Literal["time_ms", "time_s"] = "time_ms"
    subscription: Subscription | None = None
    conid: Conid = Conid()
    rest: Rest | None = None
    mark: Mark | None = None
    fields: tuple[Column, ...] = msgspec.field(name="field", default=())
    default_fields: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    whole: bool = False
    revision_of: str | None = None

    @cached_property
    def around(self) -> tuple[str, ...]:
        """The keys of columns, and of their factors, that stand around a row, not in it."""
        keys = (key for column in self.columns for key in (column.key, column.times))
        return tuple(dict.fromkeys(key for key in keys if key is not None and key.startswith("@")))

    @cached_property
    def fingerprint(self) -> str:
        """Tell schemas apart: 16 hex digits that change with the columns' names, types and order."""
        text = "\n".join(f"{column.name} {column.type}" for column in self.columns)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def field(self, name_or_key: str) -> Column:
        """Find a column or field by its name or wire key; a `UsageError` names the nearest known ones."""
        for column in (*self.columns, *self.fields):
            if name_or_key in (column.name, column.key):
                return column
        known = [column.name for column in (*self.columns, *self.fields)]
        raise UsageError(f"{self.name} has no field {name_or_key!r}", hint=nearest(name_or_key, known))


class Topics:
    """The topics of one `schemas/` folder, by name and by wire prefix."""

    def __init__(self, topics: Iterable[Topic]) -> None:
        self._by_name = {topic.name: topic for topic in topics}
        self.by_prefix: Final[Mapping[str, Topic]] = {
            prefix: topic for topic in self._by_name.values() for prefix in topic.prefixes
        }
        self.by_event: Final[Mapping[str, Topic]] = {
            topic.mark.event: topic for topic in self._by_name.values() if topic.mark is not None
        }

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._by_name.values())

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Topic:
        """Find a topic by name; a `UsageError` lists the known ones."""
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise UsageError(f"unknown topic {name!r}", hint=f"use one of: {known}") from None

    def claiming(self, wire_topic: str | None) -> Topic | None:
        """Find the topic that a frame with this wire topic belongs to: `smd+265598` belongs to market_data."""
        if wire_topic is None:
            return None
        return self.by_prefix.get(wire_topic.partition("+")[0])


def nearest(word: str, known: Iterable[str]) -> str:
    """Compose a hint that names what the user may have meant."""
    from difflib import get_close_matches  # noqa: PLC0415  only ever needed on the way to an error

    options = list(known)
    close = get_close_matches(word, options, n=3, cutoff=0.5) or [name for name in options if word in name][:3]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(options[:12])}, …"


@lru_cache(maxsize=256)
def parse_topic(text: str, *, path: Path) -> Topic:
    """Read one topic file's text, each once a process; a `TopicFileError` names the file and what is wrong."""
    try:
        topic = msgspec.toml.decode(text, type=Topic)
    except (msgspec.ValidationError, msgspec.DecodeError) as exc:
        raise TopicFileError(f"{path}: {exc}") from exc
    names = [column.name for column in (*topic.columns, *topic.fields)]
    problems = [f"two columns named {name!r}" for name in {name for name in names if names.count(name) > 1}]
    problems += [f"identity {name!r} is no column" for name in topic.identity if name not in names]
    if topic.revision_of is not None and topic.revision_of not in names:
        problems.append(f"revision_of {topic.revision_of!r} is no column")
    problems += [
        f"{column.name} times {column.times!r}, which is no key beside the rows"
        for column in topic.columns
        if column.times is not None and not column.times.startswith("@frame.")
    ]
    problems += [f"column name {name!r} is the recorder's own" for name in names if name in RESERVED]
    if topic.name != path.stem:
        problems.append(f"the name {topic.name!r} is not the file's")
    if problems:
        raise TopicFileError(f"{path}: {'; '.join(problems)}")
    return topic


def schemas_folder() -> Path:
    """Find the folder of topic files: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def load_topics(folder: Path | None = None) -> Topics:
    """Read every `*.toml` of a folder (default: the recorder's own); a `TopicFileError` says what is wrong in which."""
    folder = schemas_folder() if folder is None else folder
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise TopicFileError(f"{folder}: no topic files", hint="reinstall the package: its schemas/ folder is missing")
    topics = [parse_topic(path.read_text("utf-8"), path=path) for path in paths]
    prefixes = [prefix for topic in topics for prefix in topic.prefixes]
    twice = {prefix for prefix in prefixes if prefixes.count(prefix) > 1}
    if twice:
        raise TopicFileError(f"{folder}: claimed by two topics: {', '.join(sorted(twice))}")
    return Topics(topics)
