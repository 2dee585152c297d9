"""Fields: finding a topic's columns and fields by words, and the wire ids to ask the broker for."""

from __future__ import annotations

from collections.abc import Iterable

from recorder.errors import UsageError
from recorder.protocol.topics import Column, Topic

_NO_MATCH = 9


def search_fields(topic: Topic, words: str) -> list[Column]:
    """Find the columns and fields in whose id, name or doc every word occurs, best first; no words find all.

    A word counts most as a whole id or name, then as a word of the name, as a piece of it, as a piece of the doc.
    """
    wanted = words.casefold().split()
    ranked: list[tuple[int, Column]] = []
    for column in (*topic.columns, *topic.fields):
        ranks = [_rank(column, word) for word in wanted]
        if _NO_MATCH not in ranks:
            ranked.append((sum(ranks), column))
    ranked.sort(key=lambda pair: pair[0])
    return [column for _, column in ranked]


def field_ids(topic: Topic, names: Iterable[str]) -> list[str]:
    """Give the wire ids of fields named by name or id, each once, in order.

    An id that no topic file knows is passed on: the broker adds ids without notice. Raises `UsageError` for a name
    that is not known, or that the broker does not let a client ask for.
    """
    return list(dict.fromkeys(_field_id(topic, name.strip()) for name in names))


def _rank(column: Column, word: str) -> int:
    name = column.name.casefold()
    if word in (name, column.key.casefold()):
        return 0
    if word in name.split("_"):
        return 1
    if word in name:
        return 2
    return 3 if word in column.doc.casefold() else _NO_MATCH


def _field_id(topic: Topic, name: str) -> str:
    if _is_id(name):
        return name
    key = topic.field(name).key.removesuffix("_raw")  # a `_raw` companion comes with its field
    if not _is_id(key):
        raise UsageError(f"{name} cannot be asked for", hint="leave it out: the broker sends it by itself")
    return key


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()
