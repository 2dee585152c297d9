"""Cells: the values of one wire key over many rows, and the Arrow column that they become."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Literal, NamedTuple, TypeAlias

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


Values: TypeAlias = "list[Any] | pa.Array"
"""Values as untyped JSON; those that are all texts, whole numbers or fractions may stand in an array without nulls."""

_ARRAYS: Final[Mapping[type, pa.DataType]] = {str: pa.string(), int: pa.int64(), float: pa.float64()}


class Cells(NamedTuple):
    """The numbers of the rows that have the key, and their values."""

    rows: npt.NDArray[np.int64]
    values: Values

    def pairs(self) -> Iterator[tuple[int, Any]]:
        """Give each row with its value."""
        return zip(self.rows.tolist(), _listed(self.values), strict=True)


def joined(pieces: Sequence[Cells]) -> Cells:
    """Join cells of one key."""
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate([piece.rows for piece in pieces])
    if all(isinstance(piece.values, list) for piece in pieces):
        return Cells(rows, list(chain.from_iterable(piece.values for piece in pieces)))
    arrays = [_in_array(piece.values) for piece in pieces]
    if len({None if isinstance(array, list) else array.type for array in arrays}) == 1:
        return Cells(rows, pa.concat_arrays(arrays))
    return Cells(rows, list(chain.from_iterable(map(_listed, arrays))))


def _in_array(values: Values) -> Values:
    """Put values that are all of one type into an array, where one can hold them."""
    kind = None if not isinstance(values, list) else _ARRAYS.get(type(values[0]))
    if kind is None or (kind != pa.string() and len(set(map(type, values))) > 1):
        return values
    try:
        return pa.array(values, kind)
    except _ARROW_ERRORS:
        return values


def _listed(values: Values) -> list[Any]:
    return values if isinstance(values, list) else values.to_pylist()


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


def _in_bulk(values: Values, parser: CellParser, kind: pa.DataType) -> pa.Array | None:
    """Convert values that are all written alike; None if they are not, so that each has to be looked at."""
    values = _in_array(values)
    try:
        if isinstance(values, list):
            numbers = kind == pa.float64() and parser != "at_size" and set(map(type, values)) <= {int, float}
            return pa.array(values, kind) if numbers else None
        if values.type == pa.string():
            return _from_texts(values, parser, kind)
        return _from_numbers(values, parser, kind)
    except _ARROW_ERRORS:
        return None


def _from_texts(texts: pa.StringArray, parser: CellParser, kind: pa.DataType) -> pa.Array | None:
    if parser == "conid":
        return None
    if parser != "text":
        return _distinct(texts, parser, kind)
    empty = pc.equal(texts, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), texts) if pc.any(empty).as_py() else texts


def _from_numbers(numbers: pa.Int64Array | pa.DoubleArray, parser: CellParser, kind: pa.DataType) -> pa.Array | None:
    if kind == pa.float64():
        return numbers.cast(kind) if parser != "at_size" else None  # a number is the price
    if numbers.type != pa.int64():
        return None
    if parser == "time_ms":
        return pc.multiply_checked(numbers, 1000).cast(TIME)
    if kind != pa.int64() or (parser == "conid" and pc.min(numbers).as_py() < 0):
        return None
    return numbers


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
