"""The command `recorder`: finds the command asked for, and turns what goes wrong into a line and an exit code.

1. A command's module is imported when that command runs, so `recorder --help` waits for none of them.
2. Expected faults are one line, `recorder: <what>`, and `try: <what to do>`. Anything else is a bug and shows itself
   as a plain traceback, without the values of variables: they may hold secrets.
3. A reader of standard output that leaves early is no fault.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperGroup

from recorder.errors import RecorderError, UsageError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130  # as shells count: 128 and the number of SIGINT


class Command(NamedTuple):
    """A command: the function of that name in `recorder.cli.<name>`; `summary` repeats its docstring's first line."""

    name: str
    panel: str
    summary: str


COMMANDS: Final = (
    Command("demo", "Recording", "Show the whole recorder at work on a synthetic market; no account needed."),
    Command("capture", "Recording", "Record what the gateway streams, until stopped."),
    Command(
        "simulate",
        "Recording",
        "Serve a synthetic market as the broker's gateway would, for trying things out without an account.",
    ),
    Command("status", "Reading", "Say how a recorder is doing."),
    Command("inspect", "Reading", "Show what an archive holds."),
    Command("replay", "Reading", "Print what was recorded as JSON lines, in order, or serve it as a gateway."),
    Command(
        "gaps",
        "Reading",
        "List the holes in what was recorded: of which topic and contract, from when to when, and why.",
    ),
    Command(
        "report",
        "Reading",
        "Say what a date's recording is worth, by topic and contract; exit code 1 if it is beyond a limit.",
    ),
    Command(
        "export",
        "Reading",
        "Write quotes for other programs' backtests (CSV, hftbacktest, NautilusTrader), or any topic's rows as CSV.",
    ),
    Command("fields", "Reading", "Find fields by words in their id, name or meaning; no words list them all."),
    Command("flush", "Maintenance", "Archive what a capture left in the journal."),
    Command("verify", "Maintenance", "Check that an archive is whole."),
    Command("compact", "Maintenance", "Merge the parts of finished dates."),
    Command("rebuild", "Maintenance", "Derive a topic's tables again from the frames."),
    Command("digest", "Maintenance", "Print the digest of an archive."),
)


class _Commands(TyperGroup):
    """The commands, each a summary until it is asked for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the module of the command that runs, or whose options are completed."""
        name = args[0]
        if name in self.commands:
            alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
            alone.command(name)(getattr(import_module(f"recorder.cli.{name}"), name))
            self.commands[name] = typer.main.get_command(alone)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; end quietly when the reader of its output leaves."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as exc:
            if not _reader_left():
                raise AssertionError("a broken pipe that is not standard output") from exc
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its exit
            raise typer.Exit(OK) from exc
        return result


app: Final = typer.Typer(
    cls=_Commands,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version() -> str:
    try:
        return version("ibkr-recorder")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"


def _print_version(*, asked: bool) -> None:
    if asked:
        print(f"recorder {_version()}")
        raise typer.Exit


@app.callback()
def recorder(
    ctx: typer.Context,
    _asked: Annotated[
        bool,
        typer.Option(
            "--version", callback=lambda asked: _print_version(asked=asked), is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Record Interactive Brokers' streaming Web API to Parquet, and replay it.

    For example:

      recorder demo

      recorder capture --conid 265598,8314 --for 8h

      recorder replay --topic market_data --start 2026-11-20 | head
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(USAGE)


def _register() -> None:
    for command in COMMANDS:
        app.command(command.name, help=command.summary, rich_help_panel=command.panel)(lambda: None)


_register()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command that `args` (default: the process's own) name, and exit."""
    sys.exit(run(args))


def run(args: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    try:
        code = app(args, prog_name="recorder", standalone_mode=False) or OK
    except UsageError as exc:
        return _complain(str(exc), exc.hint, USAGE)
    except RecorderError as exc:
        return _complain(str(exc), exc.hint, FAILED)
    except typer.TyperException as exc:
        context = getattr(exc, "ctx", None)
        command = context.command_path if context else "recorder"
        what = exc.format_message().rstrip(".")
        return _complain(what[:1].lower() + what[1:], f"{command} --help", exc.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("recorder: interrupted", file=sys.stderr)
    return int(code)


def _complain(what: str, hint: str | None, code: int) -> int:
    print(f"recorder: {what}", file=sys.stderr)
    if hint:
        print(f"try: {hint}", file=sys.stderr)
    return code


def _reader_left() -> bool:
    """Tell whether nobody reads standard output any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


if __name__ == "__main__":
    main()
