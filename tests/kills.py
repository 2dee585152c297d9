"""What the tests and the soak of kills share: a sender that logs, what is on disk, and what a clean run gives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from recorder.archive.archive_digest import archive_digest
from recorder.archive.archiver import Archiver
from recorder.archive.layout import open_layout
from recorder.archive.reading import Reader
from recorder.archive.verify import verify
from recorder.library import Archive
from recorder.protocol.days import DayBoundary
from recorder.protocol.masking import Masker
from recorder.protocol.segment import Header, Scan, code_of, encode_batch, encode_end, encode_header, segment_name
from recorder.protocol.server_session import Rules
from recorder.protocol.topics import load_topics
from recorder.replay.connection import Connection
from recorder.replay.feed import Due, Instrument, Update
from recorder.replay.gateway import Gateway, serve
from recorder.replay.tally import Tally
from recorder.types import Frame

from recorder.archive.layout import make_layout
