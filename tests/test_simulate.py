"""`recorder simulate`, as its own process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recorder.cli.simulate import parse_address
from recorder.errors import UsageError
from recorder.replay.faults import KINDS

SIMULATE = [sys.executable, "-m", "recorder.cli.main", "simulate"]


@contextmanager
def simulating(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command on a free port while the context lasts."""
    command = [*SIMULATE, "--serve", "127.0.0.1:0", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Take the next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_what_to_try_and_stops_cleanly(number: signal.Signals) -> None:
    """Address, contracts, the command to type next; a signal ends it with exit code 0 and the counts."""
    with simulating("--contracts", "7") as process:
        address = re.fullmatch(r"serving (http://127\.0\.0\.1:[0-9]+/v1/api)", line(process))
        assert address
        with urllib.request.urlopen(f"{address[1]}/tickle", timeout=120) as answer:  # noqa: S310  our own server
            assert len(json.load(answer)["session"]) == 32
        assert line(process) == "contracts: 265598 AAPL, 8314 IBM, 272093 MSFT, 76792991 TSLA, 12087792 EUR and 2 more"
        assert line(process) == f"try: recorder capture --gateway {address[1]} --conid 265598,8314,272093"
        process.send_signal(number)

        assert process.communicate(timeout=120) == ("stopped; 0 frames sent in all\n", "")
        assert process.returncode == 0


def test_json_lines_name_all_conids_and_for_ends_it() -> None:
    """One document a line, for programs that start it."""
    with simulating("--contracts", "30", "--for", "200ms", "--json") as process:
        serving, stopped = json.loads(line(process)), json.loads(line(process))

        assert process.wait(timeout=120) == 0
    assert (serving["event"], len(serving["conids"])) == ("serving", 30)
    assert stopped == {"event": "stopped", "frames": 0, "topics": {}}


def test_a_port_in_use_is_one_line() -> None:
    """And a line with what to do."""
    with simulating() as process:
        port = line(process).partition("1:")[2].partition("/")[0]
        command = [*SIMULATE, "--serve", f"127.0.0.1:{port}"]
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert second.returncode == 1
    assert second.stderr.splitlines() == [
        f"recorder: cannot serve on 127.0.0.1:{port}: the port is in use",
        "try: choose another port, or 0 for a free one",
    ]


def test_an_unknown_fault_is_a_usage_error_with_the_known_ones() -> None:
    """Before anything is served."""
    command = [*SIMULATE, "--faults", "earthquake@3s"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "recorder: --faults: unknown fault 'earthquake'",
        f"try: known are {', '.join(KINDS)}",
    ]


def test_faults_are_logged_into_a_private_file(tmp_path: Path) -> None:
    """It is there before the first fault."""
    log = tmp_path / "faults.jsonl"
    with simulating("--for", "200ms", "--faults", "random:rate=1/1m", "--fault-log", str(log)) as process:
        assert process.wait(timeout=120) == 0

    assert (b"", 0o600) == (log.read_bytes(), log.stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:5000", ("127.0.0.1", 5000)), (":0", ("127.0.0.1", 0)), ("[::1]:65535", ("::1", 65535))],
)
def test_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    """Without a host it is loopback."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "5000", "localhost", "localhost:", "localhost:http", "localhost:65536"])
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    """With an example of one."""
    with pytest.raises(UsageError) as caught:
        parse_address(text)

    assert caught.value.hint == "write host:port, such as 127.0.0.1:5000"
