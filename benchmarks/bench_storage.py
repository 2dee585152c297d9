"""How many bytes a frame takes: our archive, once compacted, beside JSON lines, gzip and zstd.

    python benchmarks/bench_storage.py [--frames 1000000] [--contracts 100]

The frames are those of the synthetic market, all different: a full frame of each contract, then quote and trade deltas,
as they come. JSON lines are the payloads alone, one a line, without the receive stamps and sequences that both of our
tables hold besides; zstd -19, which takes minutes for all of them, gets the first 100,000. NautilusTrader's catalog and
DBN hold quotes of four values and are measured by `peers.py`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import tempfile
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from load_server import frames
from loads import write_day

from recorder.archive.layout import open_layout
from recorder.recording import compact_finished, flush

TABLES = ("market_data", "frames")
SAMPLE = 100_000


def columns(files: list[Path]) -> dict[str, int]:
    """Sum the bytes of each column over files."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for path in files:
        found = pq.read_metadata(path)
        for group in range(found.num_row_groups):
            for number in range(found.num_columns):
                chunk = found.row_group(group).column(number)
                sizes[chunk.path_in_schema] += chunk.total_compressed_size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def main() -> None:
    """Make both, weigh them, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--contracts", type=int, default=100)
    parser.add_argument("--columns", action="store_true", help="say also what each column takes")
    options = parser.parse_args()
    count = options.frames
    payloads = frames(count, options.contracts)
    lines = b"\n".join(payloads) + b"\n"
    gzipped = len(gzip.compress(lines, 6))
    sample = b"\n".join(payloads[:SAMPLE])
    zstd = pa.Codec("zstd", compression_level=19).compress(sample).size / min(count, SAMPLE)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_day(data, frames=count, payloads=payloads, segment=count // 4)
        layout = open_layout(data)
        flush(layout, tell=lambda _news: None)
        flushed = {name: sum(path.stat().st_size for path in (data / name).rglob("*.parquet")) for name in TABLES}
        compact_finished(layout, before="2100-01-01", done=lambda _rows: None)
        files = {name: list((data / name).rglob("*.parquet")) for name in TABLES}
        sizes = {name: sum(path.stat().st_size for path in paths) for name, paths in files.items()}
        by_column = {name: columns(paths) for name, paths in files.items()} if options.columns else {}
    figures: dict[str, object] = {
        "frames": count,
        "json_lines_bytes_per_frame": round(len(lines) / count, 1),
        "gzip_bytes_per_frame": round(gzipped / count, 1),
        "zstd_19_bytes_per_frame": round(zstd, 1),
        "typed_bytes_per_row": round(sizes["market_data"] / count, 1),
        "verbatim_bytes_per_frame": round(sizes["frames"] / count, 1),
        "typed_to_gzip": round(sizes["market_data"] / gzipped, 2),
        "verbatim_to_gzip": round(sizes["frames"] / gzipped, 2),
        "typed_before_compaction_to_gzip": round(flushed["market_data"] / gzipped, 2),
        "verbatim_before_compaction_to_gzip": round(flushed["frames"] / gzipped, 2),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }
    print(json.dumps(figures | by_column, indent=2))


if __name__ == "__main__":
    main()
