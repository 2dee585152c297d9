"""Column chunks: what a row group's footer says of its columns, asked in a way that damage cannot turn into a crash."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq


def chunks(file: pq.ParquetFile, number: int) -> Iterator[pq.ColumnChunkMetaData]:
    """Give a row group's column chunks, but for those whose statistics cannot be asked for.

    No checksum covers a footer. Of a chunk that contradicts its schema, pyarrow ends the process when its metadata is
    asked for (seen with pyarrow 26: a flipped bit in the counts of levels), but its reader raises. So a reader is made
    of all columns first, which reads no page. Raises what Parquet's reader does: call it within `damage`.
    """
    group = file.metadata.row_group(number)
    for _ in file.reader.iter_batches(0, row_groups=[number], column_indices=[*range(group.num_columns)]):
        raise AssertionError("no batch was asked for")
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.physical_type == file.schema.column(place).physical_type:  # else its statistics would end the process
            yield chunk
