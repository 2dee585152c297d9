"""The command line: what a user sees when all is well, and when it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from recorder.cli import main as cli
from recorder.errors import GatewayError, UsageError
from recorder.protocol.topics import load_topics

HEAVY = {"aiohttp", "apscheduler", "msgspec", "numpy", "pandas", "pyarrow", "websockets"}
RECORDER = [sys.executable, "-m", "recorder.cli.main"]


def recorder(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its own process."""
    return subprocess.run([*RECORDER, *args], capture_output=True, text=True, check=False, timeout=300)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `recorder fields` end in an error."""

    def fields() -> None:
        """Fail."""
        raise error

    monkeypatch.setattr(import_module("recorder.cli.fields"), "fields", fields)


def test_help_names_every_command_and_shows_examples() -> None:
    """Three groups of commands, and what to type first."""
    ran = recorder("--help")

    assert ran.returncode == 0
    assert [one.name for one in cli.COMMANDS if one.name not in ran.stdout or one.panel not in ran.stdout] == []
    assert "recorder demo" in ran.stdout


def test_no_command_prints_the_help_and_is_a_usage_error() -> None:
    """A script that lost its command must not go on as if all were well."""
    ran = recorder()

    assert (ran.returncode, ran.stderr) == (2, "")
    assert "Usage: recorder" in ran.stdout


@pytest.mark.parametrize("args", [["--help"], ["fields", "--help"], ["fields", "bid"]])
def test_help_and_fields_wait_for_no_table_library(args: list[str]) -> None:
    """Importing pandas and pyarrow takes longer than all that these commands do."""
    script = f"import sys; from recorder.cli.main import run; run({args}); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)

    assert set() == (HEAVY - {"msgspec"} if args != ["--help"] else HEAVY) & set(ran.stderr.split())


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.name)
def test_the_summary_is_the_first_line_of_the_commands_help(command: cli.Command) -> None:
    """`recorder --help` and `recorder <command> --help` say the same."""
    function = getattr(import_module(f"recorder.cli.{command.name}"), command.name)

    assert command.summary == " ".join(function.__doc__.split("\n\n")[0].split())


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug report begins with it."""
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("recorder ")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["smulate"], "recorder: no such command 'smulate'. Did you mean 'simulate'?\ntry: recorder --help\n"),
        (["fields", "--jsn"], "recorder: no such option: --jsn"),
        (["fields", "--topic", "nix"], "recorder: unknown topic 'nix'\ntry: use one of: "),
    ],
)
def test_a_usage_error_is_one_line_with_a_hint(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, nothing on standard output."""
    assert cli.run(args) == 2
    out, err = capsys.readouterr()
    assert ("", told) == (out, err[: len(told)])
    assert err.count("\n") == 2


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (GatewayError("no gateway"), 1, "recorder: no gateway\n"),
        (GatewayError("no gateway", hint="start it"), 1, "recorder: no gateway\ntry: start it\n"),
        (UsageError("wrong"), 2, "recorder: wrong\n"),
        (KeyboardInterrupt(), 130, "recorder: interrupted\n"),
        (typer.Exit(3), 3, ""),
    ],
)
def test_an_expected_fault_is_a_line_and_an_exit_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback; 1 for work that failed, 2 for usage, 130 for an interrupt that no command took."""
    fail_with(monkeypatch, error)

    assert code == cli.run(["fields"])
    assert ("", told) == capsys.readouterr()


def test_a_bug_shows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected is not dressed up as an error of the user's."""
    fail_with(monkeypatch, ZeroDivisionError("oops"))

    with pytest.raises(ZeroDivisionError):
        cli.run(["fields"])


def test_a_broken_pipe_elsewhere_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the reader of standard output may leave early; a socket's broken pipe is an error to be told."""
    fail_with(monkeypatch, BrokenPipeError("a socket's"))
    read, write = os.pipe()
    with os.fdopen(write, "w") as stdout, os.fdopen(read):
        monkeypatch.setattr(sys, "stdout", stdout)

        with pytest.raises(AssertionError, match="not standard output"):
            cli.run(["fields"])


def test_a_reader_that_leaves_early_ends_the_command_quietly() -> None:
    """`recorder fields | head -0`: exit code 0, nothing on standard error."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stdout:
        ran = subprocess.run([*RECORDER, "fields"], stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=300)

    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_traceback_holds_no_values() -> None:
    """Variables may hold secrets: the values of locals are never printed."""
    script = (
        "import recorder.cli.fields as f, recorder.cli.main as m\n"
        "def fields():\n    token = 'se' + 'cret'\n    raise ZeroDivisionError\n"
        "f.fields = fields\nm.main(['fields'])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)

    assert ran.returncode == 1
    assert "ZeroDivisionError" in ran.stderr
    assert "secret" not in ran.stderr


def test_fields_finds_by_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people."""
    assert cli.run(["fields", "bid", "price"]) == 0
    header, _, first = capsys.readouterr().out.splitlines()[:3]

    assert header.split() == ["id", "name", "parser", "kept", "doc"]
    assert first.split()[:4] == ["84", "bid_price", "price", "column"]


def test_fields_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    """The same for programs: all that the topic knows."""
    assert cli.run(["fields", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    topic = load_topics()["market_data"]

    assert list(found[0]) == ["id", "name", "parser", "kept", "doc"]
    assert {row["id"] for row in found} == {field.key for field in (*topic.columns, *topic.fields)}


def test_fields_that_finds_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty answer is an answer: a line for people, an empty list for programs."""
    assert [cli.run(["fields", "qqq"]), cli.run(["fields", "qqq", "--json"])] == [0, 0]
    assert (
        capsys.readouterr().out
    ) == "no field of market_data matches 'qqq'; `recorder fields --topic market_data` lists them all\n[]\n"


def test_the_folder_of_commands_holds_no_command_that_is_not_listed() -> None:
    """A file that defines a function of its own name is a command; each is in the table."""
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")} - {"main", "__init__"}
    commands = {name for name in modules if hasattr(import_module(f"recorder.cli.{name}"), name)}

    assert {command.name for command in cli.COMMANDS} == commands
