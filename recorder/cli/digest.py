"""`recorder digest`: one line for all that an archive holds."""

from __future__ import annotations

from recorder.cli.options import Config, Data, Json
from recorder.cli.output import print_json, progress
from recorder.cli.settings import data_folder


def digest(data: Data = None, json: Json = False, config: Config = None) -> None:
    """Print the digest of an archive.

    It depends on frames and rows alone: flushing, compaction, another encoding, or copying the archive to another disk
    changes nothing. Below it stand the content digests by topic, which equal those of the sender.

    For example:

      recorder digest

      recorder digest --data /backup/data --json
    """
    folder = data_folder(data, config)
    import recorder  # noqa: PLC0415  pyarrow takes a moment to import
    from recorder.archive.archive_digest import archive_digest  # noqa: PLC0415
    from recorder.archive.layout import open_layout  # noqa: PLC0415
    from recorder.archive.reading import Reader  # noqa: PLC0415
    from recorder.protocol.topics import load_topics  # noqa: PLC0415

    reader = Reader(open_layout(folder), load_topics())
    with progress("reading", total=reader.archived_frames()) as done:
        root = archive_digest(reader, done=done).hexdigest()
    contents = recorder.open(folder).digests()
    if json:
        topics = {name: {"frames": one.count, "digest": one.hexdigest()} for name, one in sorted(contents.items())}
        print_json({"archive": root, "topics": topics})
        return
    print(f"archive {root}")
    for name, one in sorted(contents.items()):
        print(f"  {name:<16} {one.count:>12,} frames  {one.hexdigest()}")
