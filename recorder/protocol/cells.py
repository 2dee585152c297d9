"""Cells: the values of one wire key over many rows, and the Arrow column that they become."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recorder.protocol.dialect import PARSERS, parse_bare_price
from recorder.protocol.tables import ARROW_TYPES, TIME
from recorder.protocol.topics import PARSER_TYPES, Parser

Reject = Callable[[int, Any], None]
"""Takes what has no meaning for the column's parser: row number and value as it came."""

CellParser = Parser | Literal["bare_price", "conid"]
"""Parsers of topic files, and two that the decoder chooses: a price whose letter no column keeps, and a contract."""

_PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {"bare_price": parse_bare_price, **dict(PARSERS.items())}
_CONID: Final = re.compile(r"([0-9]{1,18})([^0-9].*)?", re.DOTALL)
_ARROW_ERRORS: Final = (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError)


class Cells(NamedTuple):
    """The numbers of the rows that have the key, and their values as untyped JSON."""

    rows: npt.NDArray[np.int64]
    values: list[Any]

    def pairs(self) -> Iterator[tuple[int, Any]]:
        """Give each row with its value."""
        return zip(self.rows.tolist(), self.values, strict=True)


def to_text(value: Any) -> str:
    """Write a JSON value as text: text as it is, anything else as compact JSON."""
    return value if type(value) is str else msgspec.json.encode(value).decode()


def to_column(cells: Cells | None, parser: CellParser, count: int, reject: Reject) -> pa.Array:
    """Make a column of `count` rows. Rows without a cell are null; so are those whose value is handed to `reject`."""
    kind = _type_of(parser)
    if cells is None:
        return pa.nulls(count, kind)
    dense = _in_bulk(cells.values, parser, kind)
    if dense is None:
        dense = _one_by_one(cells, parser, kind, reject)
    if len(cells.rows) == count and np.array_equal(cells.rows, np.arange(count)):
        return dense
    places = np.full(count, -1, np.int64)
    places[cells.rows] = np.arange(len(cells.rows))
    return dense.take(pa.array(places, mask=places < 0))


def multiplied(values: pa.Array, given: Cells, factors: Cells | None, reject: Reject) -> pa.Array:
    """Multiply a column; a value whose factor is not known, or whose product is no number, stays as it came."""
    factor = to_column(factors, "number", len(values), lambda _row, _value: None)
    product = pc.multiply(values, factor)
    good = pc.fill_null(pc.is_finite(product), False)
    product = pc.if_else(good, product, pa.scalar(None, pa.float64()))
    lost = np.asarray(pc.and_not(pc.is_valid(values), good))
    for row, value in given.pairs() if lost.any() else ():
        if lost[row]:
            reject(row, value)
    return product


def _type_of(parser: CellParser) -> pa.DataType:
    if parser == "conid":
        return pa.int64()
    return ARROW_TYPES[PARSER_TYPES["price" if parser == "bare_price" else parser]]


def _in_bulk(values: list[Any], parser: CellParser, kind: pa.DataType) -> pa.Array | None:
    """Convert values that are all written alike; None if they are not, so that each has to be looked at."""
    if type(values[0]) is str:
        return None if parser == "conid" else _texts(values, parser, kind)
    if kind == pa.float64():
        return _numbers(values, float, kind) if parser != "at_size" else None  # a number is the price
    if kind == pa.int64() and type(values[0]) is int:
        return _whole(values, parser, kind)
    if parser == "time_ms" and type(values[0]) is int:
        return _milliseconds(values)
    return None


def _texts(values: list[Any], parser: CellParser, kind: pa.DataType) -> pa.Array | None:
    try:
        texts = pa.array(values, pa.string())
    except _ARROW_ERRORS:
        return None
    if parser == "text":
        return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    return _distinct(texts, parser, kind)


def _numbers(values: list[Any], of: type, kind: pa.DataType) -> pa.Array | None:
    if of is int and set(map(type, values)) != {int}:
        return None
    try:
        return pa.array(values, kind) if set(map(type, values)) <= {int, float} else None
    except _ARROW_ERRORS:
        return None


def _whole(values: list[Any], parser: CellParser, kind: pa.DataType) -> pa.Array | None:
    numbers = _numbers(values, int, kind)
    if parser == "conid" and numbers is not None and pc.min(numbers).as_py() < 0:
        return None
    return numbers


def _milliseconds(values: list[Any]) -> pa.Array | None:
    whole = _numbers(values, int, pa.int64())
    if whole is None:
        return None
    try:
        return pc.multiply_checked(whole, 1000).cast(TIME)
    except _ARROW_ERRORS:
        return None


def _distinct(texts: pa.Array, parser: CellParser, kind: pa.DataType) -> pa.Array | None:
    """Convert each distinct text once: prices and sizes repeat."""
    encoded = texts.dictionary_encode()
    try:
        parsed = _plain_floats(encoded.dictionary) if kind == pa.float64() and parser != "at_size" else None
        if parsed is None:
            parse = _PARSERS[parser]
            parsed = pa.array([parse(text) for text in encoded.dictionary.to_pylist()], kind)
    except (ValueError, *_ARROW_ERRORS):
        return None
    return parsed.take(encoded.indices)


def _plain_floats(texts: pa.Array) -> pa.Array | None:
    """Cast texts that are plain decimal numbers; None if one is not (commas, suffixes, a sign, `nan`)."""
    try:
        numbers = texts.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return numbers if pc.all(pc.is_finite(numbers)).as_py() else None


def _one_by_one(cells: Cells, parser: CellParser, kind: pa.DataType, reject: Reject) -> pa.Array:
    parsed: list[Any] = []
    for row, value in cells.pairs():
        if parser == "conid":
            parsed.append(_conid(row, value, reject))
            continue
        if parser == "text":
            parsed.append(None if value is None or value == "" else to_text(value))
            continue
        try:
            parsed.append(_PARSERS[parser](value))
        except ValueError:
            parsed.append(None)
            reject(row, value)
    return pa.array(parsed, kind)


def _conid(row: int, value: Any, reject: Reject) -> int | None:
    """Read a contract: a number, a number as text, or `265598@NYSE`, of which the rest goes to `reject` too."""
    if type(value) is int and 0 <= value < 2**63:
        return value
    found = _CONID.fullmatch(value) if type(value) is str else None
    if found is None:
        if value is not None and value != "":
            reject(row, value)
        return None
    if found[2]:
        reject(row, value)
    return int(found[1])
