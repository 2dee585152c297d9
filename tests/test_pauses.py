"""Pauses: what a process of ours sets up so that nothing holds frames up for long."""

from __future__ import annotations

import json
import subprocess
import sys

from conftest import environment

CODE = """
import gc, json, sys
import recorder.cli.main
from recorder.pauses import shorten_pauses
shorten_pauses()
print(json.dumps([gc.get_freeze_count(), gc.get_threshold()[0], sys.getswitchinterval()]))
"""


def test_what_is_loaded_is_left_out_of_the_collectors_walks() -> None:
    """Tens of thousands of objects; and threads take turns of a millisecond."""
    said = subprocess.run([sys.executable, "-c", CODE], env=environment(), capture_output=True, text=True, check=True)
    frozen, young, turn = json.loads(said.stdout)

    assert frozen > 10_000
    assert young > 10_000
    assert turn <= 0.001
