"""What the docs say is what the commands do."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from recorder.cli import main as cli
from recorder.cli.settings import SETTINGS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CLI = ROOT / "docs" / "cli.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

TEST_COMMAND = "pip install '.[test]' && pytest"
COMMANDS = [command.name for command in cli.COMMANDS]


def section(name: str) -> str:
    """Give a command's section of docs/cli.md."""
    found = re.search(rf"^## recorder {name}\n(.*?)(?=^## )", CLI.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def options(name: str) -> set[str]:
    """Give the long options of a command, but for its help."""
    app = typer.Typer(add_completion=False)
    app.command(name)(getattr(import_module(f"recorder.cli.{name}"), name))
    command: Any = typer.main.get_command(app)
    flags = {flag for option in command.params for flag in option.opts if flag.startswith("--")}
    return flags - {"--help"}


def shell_lines(page: Path) -> list[str]:
    """Give the lines of a page that call the recorder: indented or fenced code, with or without a prompt."""
    fenced = re.findall(r"^```(?:console|bash|sh|shell)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}(\S.*)$", page.read_text("utf-8"), re.MULTILINE)
    lines = [line.removeprefix("$ ") for line in [*"\n".join(fenced).splitlines(), *indented]]
    return [line for line in lines if re.match(r"recorder [a-z]", line)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_its_options_and_no_others(name: str) -> None:
    """A row for each option; a row for an option that is gone misleads."""
    documented = set(re.findall(r"^\| `(--[a-z-]+)", section(name), re.MULTILINE))

    assert documented == options(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_shown_at_work(name: str) -> None:
    """Its help and its section hold examples."""
    function = getattr(import_module(f"recorder.cli.{name}"), name)

    assert f"    recorder {name}" in section(name)
    assert f"  recorder {name}" in function.__doc__


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_with_json_documents_its_keys(name: str) -> None:
    """Programs read what people wrote down."""
    assert ("--json" in options(name)) == ("With `--json`" in section(name))


def test_the_json_of_fields_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """Each key stands in its section."""
    cli.run(["fields", "--json"])
    keys = json.loads(capsys.readouterr().out)[0]

    assert [key for key in keys if f"`{key}`" not in section("fields")] == []


def test_every_setting_is_documented_with_its_default() -> None:
    """The table is the settings, in their order."""
    rows = re.findall(r"^\| `([a-z_]+)` \| `(.*?)` \| (.*) \|$", CLI.read_text("utf-8"), re.MULTILINE)

    assert rows == [(one.key, one.default_toml, one.doc) for one in SETTINGS.values()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_in_the_docs_exists(page: Path) -> None:
    """A command that is shown, with its options, can be typed."""
    for line in shell_lines(page):
        name = line.split()[1]
        assert name in COMMANDS, f"{page.name}: {line}"
        used = set(re.findall(r" (--[a-z-]+)", line.split("|")[0].split("#")[0]))
        assert used - options(name) == set(), f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    """A link that is relative is a file of the checkout."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_and_the_checks_test_alike() -> None:
    """What CI runs is what the README tells a newcomer to run."""
    assert TEST_COMMAND in README.read_text("utf-8")
    assert TEST_COMMAND in (ROOT / ".ci" / "run").read_text("utf-8")


def test_the_readme_runs_the_main_job_in_one_line() -> None:
    """One command installs and shows everything."""
    assert "pip install . && recorder demo" in README.read_text("utf-8")
