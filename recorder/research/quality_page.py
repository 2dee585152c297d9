"""The quality page: a day's quality as one HTML file, which needs nothing else."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import msgspec

_PLACE: Final = "/*DOCUMENT*/null"


def quality_page(document: dict[str, Any]) -> str:
    """Put a quality document into the page; it is drawn by the page's own script, without a network."""
    template = files("recorder.research").joinpath("quality.html").read_text("utf-8")
    before, place, behind = template.partition(_PLACE)
    assert place, "the template has a place for the document"
    said = msgspec.json.encode(document).decode()
    return before + said.replace("<", "\\u003c") + behind  # no text can end the script
