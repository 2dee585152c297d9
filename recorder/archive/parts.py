"""Parts: Parquet files, written whole or not at all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from recorder.archive.commit import KEY, damage
from recorder.disk import sync_folder
from recorder.errors import Damaged
from recorder.protocol.topics import Topic

ROW_GROUP: Final = 131_072
CODED: Final = pa.dictionary(pa.int32(), pa.string())
"""The type of texts that are read as they are stored: each distinct one once."""
_FEW: Final = 8_192
"""Rows of a part that is not worth zstd: it lives until its date is compacted."""
_THREADS: Final = 65_536
"""Rows at once from which it pays to read columns side by side: for a few thousand, threads take half as long again."""
_LEVEL: Final = 3
"""Of zstd. Arrow's default, 1, takes as long and makes frames 13% larger; 7 makes them 14% smaller in five times it."""
_PAGE: Final = 4_000_000
_DELTA: Final = ("ts_recv", "ts_event", "seq", "item", "conn")


def _options(schema: pa.Schema, *, plain: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give the writer's settings: delta-packed numbers and times that grow, dictionaries for what repeats.

    Measured in the survey of peers: 8.6 bytes a row against 12.7 with defaults. Page checksums cost nothing that shows.
    Arrow's copy of the schema is left out: it says nothing that Parquet's does not, would name dictionaries that texts
    may come in, and is a third of a small part's footer.
    """
    delta = [name for name in _DELTA if name in schema.names]
    encodings = dict.fromkeys(delta, "DELTA_BINARY_PACKED") | dict.fromkeys(plain, "DELTA_LENGTH_BYTE_ARRAY")
    return {
        "compression": "zstd",
        "compression_level": _LEVEL,
        "data_page_size": _PAGE,
        "version": "2.6",
        "use_dictionary": [name for name in schema.names if name not in (*delta, *plain)],
        "column_encoding": encodings,
        "write_page_checksum": True,
        "store_schema": False,
    }


def write_typed(table: pa.Table, topic: Topic, tmp: Path) -> None:
    """Write a typed part of the topic's schema to `tmp`.

    Most columns of most parts have no value. They are not compressed: that makes nothing smaller, and to set a
    compressor up for each takes longer than all else. For few rows to set zstd up takes longer than Snappy takes for
    all of them: a part of 416 rows is read in half the time, and has 3% more bytes until it is compacted. The part is
    put together in memory and written at once.
    """
    table = table.replace_schema_metadata(typed_metadata(topic))
    options = _options(table.schema)
    content = pa.BufferOutputStream()
    codec = "snappy" if table.num_rows <= _FEW else "zstd"
    options["compression"] = {path: codec for field in table.schema for path in _valued_paths(table, field)}
    options["compression_level"] = dict.fromkeys(options["compression"], _LEVEL) if codec == "zstd" else None
    with pq.ParquetWriter(content, table.schema, **options) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP)
        writer.add_key_value_metadata(_texts_of(table.schema.metadata))
    tmp.write_bytes(content.getvalue())


def _valued_paths(table: pa.Table, field: pa.Field) -> list[str]:
    """Give the Parquet columns of a field, none if it has no value."""
    if table.column(field.name).null_count == table.num_rows:
        return []
    name = field.name
    return [f"{name}.key_value.key", f"{name}.key_value.value"] if pa.types.is_map(field.type) else [name]


def typed_metadata(topic: Topic) -> dict[bytes, bytes]:
    """Give the metadata of a typed part's schema."""
    return {KEY: msgspec.json.encode({"topic": topic.name, "fingerprint": topic.fingerprint})}


def read_fingerprint(path: Path) -> str | None:
    """Read the schema fingerprint of a typed part; None if it is no part of ours, `Damaged` if it cannot be read."""
    with damage(path):
        schema = pq.read_schema(path)
    return fingerprint_of(schema)


def fingerprint_of(schema: pa.Schema) -> str | None:
    """Give the fingerprint that a typed part's schema says, or None."""
    try:
        said: dict[str, str] = msgspec.json.decode((schema.metadata or {})[KEY])
        return said["fingerprint"]
    except (KeyError, TypeError, UnicodeDecodeError, msgspec.MsgspecError):
        return None


class RowWriter:
    """Writes a part row group by row group, so that memory does not grow with it.

    The schema may have dictionaries for texts, if all tables have: that is no matter to the part. `plain` names columns
    of which no dictionary is made: their values do not repeat.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, plain: tuple[str, ...] = ()) -> None:
        self.path = path
        self._metadata = _texts_of(schema.metadata)
        self._writer = pq.ParquetWriter(path, schema, **_options(schema, plain=plain))
        self._pending: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Take the next rows."""
        self._pending.append(table)
        self._rows += table.num_rows
        if self._rows >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what waits for a row group to be full: rows that follow begin the next one."""
        if self._pending:
            self._writer.write_table(pa.concat_tables(self._pending), row_group_size=ROW_GROUP)
            self._pending, self._rows = [], 0

    def finish(self, metadata: dict[str, str]) -> None:
        """Write what is left, and the footer."""
        self.flush()
        if said := self._metadata | metadata:
            self._writer.add_key_value_metadata(said)
        self._writer.close()

    def abandon(self) -> None:
        """Give the file up."""
        self._writer.close()
        self.path.unlink(missing_ok=True)


def _texts_of(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items()}


def read_tables(
    path: Path,
    *,
    schema: pa.Schema | None,
    columns: Sequence[str] | None = None,
    rows: int = ROW_GROUP,
    coded: Collection[str] = (),
) -> Iterator[pa.Table]:
    """Read a part some rows at a time, checking page checksums; texts of `coded` columns come as dictionaries.

    `Damaged` names the file that cannot be read, or that has another schema than the given one.
    """
    with damage(path):
        file = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=list(coded))
        if schema is not None:
            check_schema(file, coded_schema(schema, coded), path)
        names = None if columns is None else list(columns)
        for batch in file.iter_batches(rows, columns=names, use_threads=rows >= _THREADS):
            yield pa.Table.from_batches([batch])


def open_part(path: Path, schema: pa.Schema, *, coded: Collection[str] = ()) -> pq.ParquetFile:
    """Open a part of this schema, to be read with page checksums; texts of `coded` columns come as dictionaries.

    `Damaged` names a part that cannot be opened, or has another schema.
    """
    with damage(path):
        file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=True, read_dictionary=list(coded))
        check_schema(file, coded_schema(schema, coded), path)
    return file


def first_rows(file: pq.ParquetFile, group: int, rows: int, *, columns: Sequence[str], threads: bool) -> pa.Table:
    """Read the first rows of a row group, at least one; values behind them are not decoded.

    Raises what Parquet's reader does: call it within `damage`.
    """
    batches: list[pa.RecordBatch] = []
    for batch in file.iter_batches(rows, row_groups=[group], columns=[*columns], use_threads=threads):
        batches.append(batch)
        if sum(found.num_rows for found in batches) >= rows:
            break
    return pa.Table.from_batches(batches)


def coded_schema(schema: pa.Schema, coded: Collection[str]) -> pa.Schema:
    """Give a schema with dictionaries in place of the texts of some columns."""
    return pa.schema(
        [field.with_type(CODED) if field.name in coded and field.type == pa.string() else field for field in schema]
    )


def check_schema(file: pq.ParquetFile, schema: pa.Schema, path: Path) -> None:
    """Raise `Damaged` if a part has other columns than it should."""
    check_columns(file.schema_arrow, schema, path)


def check_columns(found: pa.Schema, schema: pa.Schema, path: Path) -> None:
    """Raise `Damaged` if the schema that was found in a part is another one than it should be."""
    if not found.equals(schema):
        odd = [field.name for field in found if field not in list(schema)] or found.names
        what = f"the part has other columns than it was written with ({', '.join(odd[:3])})"
        raise Damaged(what, path=path, offset=0, hint="run `recorder verify`")


def sync_folders(folders: set[Path]) -> None:
    """Make the renames into these folders survive a power loss."""
    for folder in sorted(folders):
        sync_folder(folder)
