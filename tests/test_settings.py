"""Settings: a flag wins over a variable, that over the file, that over the default; typos are never passed over."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from recorder.capture.settings import CaptureSettings
from recorder.cli.settings import SETTINGS, capture_settings, data_folder
from recorder.errors import SettingError

EXAMPLE = Path(__file__).parent.parent / "recorder.example.toml"
SETTING_LINE = re.compile(r"^# (?=[a-z_]+ = )", re.MULTILINE)


def settings(
    folder: Path,
    toml: str = "",
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> CaptureSettings:
    """Merge settings with a recorder.toml of the given text in the folder."""
    (folder / "recorder.toml").write_text(toml)
    return capture_settings(flags or {}, environ=environ or {}, folder=folder)


def complaint(
    folder: Path,
    toml: str = "",
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Give the text and the hint of the error that the settings raise."""
    with pytest.raises(SettingError) as caught:
        settings(folder, toml, flags=flags, environ=environ)
    return f"{str(caught.value).replace(str(folder), '.')} | {caught.value.hint}"


def test_the_defaults_hold_where_nothing_is_said(tmp_path: Path) -> None:
    """No flag, no variable, no file."""
    assert CaptureSettings() == capture_settings({}, environ={"PATH": "/bin"}, folder=tmp_path)


def test_the_example_holds_every_setting_once() -> None:
    """A setting without a line in the example is a setting that nobody finds."""
    keys = re.findall(r"^# ([a-z_]+) = ", EXAMPLE.read_text("utf-8"), re.MULTILINE)

    assert list(SETTINGS) == keys


def test_the_example_uncommented_gives_the_defaults(tmp_path: Path) -> None:
    """Every line is valid TOML and says the default."""
    text = SETTING_LINE.sub("", EXAMPLE.read_text("utf-8"))

    assert CaptureSettings() == settings(tmp_path, text)


def test_each_setting_of_the_example_stands_below_its_meaning() -> None:
    """The comment is the setting's own doc."""
    text = EXAMPLE.read_text("utf-8")

    missing = [one.key for one in SETTINGS.values() if f"\n# {one.doc}\n# {one.key} = {one.default_toml}\n" not in text]
    assert missing == []


def test_a_flag_wins_over_a_variable_and_that_over_the_file(tmp_path: Path) -> None:
    """Three layers above the default, each visible where those above it are silent."""
    toml = 'renew_every = "1m"\ntickle_every = "1s"\nflush_every = "2h"'
    environ = {"RECORDER_RENEW_EVERY": "2s", "RECORDER_TICKLE_EVERY": "30s"}

    merged = settings(tmp_path, toml, flags={"renew_every": "3s"}, environ=environ)

    assert (merged.renew_every, merged.tickle_every, merged.flush_every) == (3.0, 30.0, 7_200.0)


def test_flags_that_were_not_given_leave_the_lower_layers_alone(tmp_path: Path) -> None:
    """None, False and an empty list are what the command line gives for a missing flag."""
    flags: dict[str, object] = {"recorder_name": None, "insecure": False, "conid": []}

    merged = settings(tmp_path, 'recorder_name = "b"\ninsecure = true\nconid = [8314]', flags=flags)

    assert (merged.recorder_name, merged.insecure, merged.conid) == ("b", True, ("8314",))


@pytest.mark.parametrize(
    ("toml", "flags", "environ"),
    [
        ('conid = ["265598", "8314@NYSE"]', {}, {}),
        ('conid = "265598,8314@NYSE"', {}, {}),
        ("", {"conid": ["265598", "8314@NYSE"]}, {}),
        ("", {"conid": ["265598, 8314@NYSE,265598"]}, {}),
        ("", {}, {"RECORDER_CONID": "265598,8314@NYSE"}),
    ],
)
def test_a_list_is_comma_separated_or_repeated(
    tmp_path: Path, toml: str, flags: dict[str, object], environ: dict[str, str]
) -> None:
    """However it is written, it is the same list."""
    assert settings(tmp_path, toml, flags=flags, environ=environ).conid == ("265598", "8314@NYSE")


def test_the_commas_of_a_combo_contract_do_not_separate(tmp_path: Path) -> None:
    """A combo's legs are one contract."""
    combo = "28812380;;;497207644/1,497207679/-1"

    assert (combo, "8314") == settings(tmp_path, flags={"conid": [combo, "8314"]}).conid


def test_each_kind_of_value_is_read_from_the_file(tmp_path: Path) -> None:
    """Durations and sizes as text, numbers and truth as TOML has them."""
    merged = settings(
        tmp_path, 'write_within = "20ms"\njournal_memory = "1GiB"\nflush_frames = 5_000\nlogin = true\ndata = "~/ticks"'
    )

    assert (merged.write_within, merged.journal_memory, merged.flush_frames) == (0.02, 2**30, 5_000)
    assert (True, Path("~/ticks").expanduser()) == (merged.login, merged.data)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('flush_evry = "1h"', "./recorder.toml: unknown key 'flush_evry' | did you mean flush_every"),
        ('flush_every = "3x"', "./recorder.toml: flush_every: '3x' is not a duration | write a number with its unit"),
        (
            "flush_every = 60",
            "./recorder.toml: flush_every: 60 is not what this key takes | write it as text with a un",
        ),
        ('flush_every = "60"', "./recorder.toml: flush_every: '60' has no unit | write a number with its unit"),
        ('flush_every = "0s"', "./recorder.toml: flush_every: '0s' is not allowed | use a duration longer than 0"),
        (
            "flush_bytes = 3",
            "./recorder.toml: flush_bytes: 3 is not what this key takes | write it as text with a unit",
        ),
        ("flush_frames = 0", "./recorder.toml: flush_frames: 0 is not allowed | use a number above 0"),
        ("flush_frames = true", "./recorder.toml: flush_frames: True is not what this key takes | write it as a whole"),
        ('insecure = "yes"', "./recorder.toml: insecure: 'yes' is not what this key takes | write it as true or false"),
        ("conid = 1.5", "./recorder.toml: conid: 1.5 is not a list | write a list of texts"),
        ('conid = ["AAPL"]', "./recorder.toml: conid: 'AAPL' is not allowed | use contract ids, such as 265598"),
        ('gateway = "localhost:5000"', "./recorder.toml: gateway: 'localhost:5000' is not allowed | use an http or"),
        ('gateway = "https://a:b/"', "./recorder.toml: gateway: 'https://a:b/' is not allowed | use an http or https"),
        ('recorder_name = "Main!"', "./recorder.toml: recorder_name: 'Main!' is not allowed | use 1 to 32 of the"),
        ('day_boundary = "25:00"', "./recorder.toml: day_boundary: '25:00' is not allowed | use a time and a zone"),
        ('data = ""', "./recorder.toml: data: '' is not a folder | write a path"),
        ("a = ", "./recorder.toml is not TOML: Invalid value (at end of document) | compare it with"),
        ('insecure = true\nca = "ca.pem"', "insecure and ca exclude each other | leave one of them out"),
    ],
)
def test_an_error_names_the_file_the_key_what_was_given_and_what_is_allowed(
    tmp_path: Path, toml: str, told: str
) -> None:
    """One line and a hint are enough to mend the file."""
    assert told == complaint(tmp_path, toml)[: len(told)]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"RECORDER_RENEW_EVRY": "3s"}, "unknown variable RECORDER_RENEW_EVRY | did you mean RECORDER_RENEW_EVERY"),
        ({"RECORDER_RENEW_EVERY": "3"}, "RECORDER_RENEW_EVERY: '3' has no unit | write a number with its unit"),
        ({"RECORDER_LOGIN": "maybe"}, "RECORDER_LOGIN: 'maybe' is neither true nor false | write true or false"),
        ({"RECORDER_FLUSH_FRAMES": "2M"}, "RECORDER_FLUSH_FRAMES: '2M' is not a whole number | write digits only"),
    ],
)
def test_an_error_names_the_variable(tmp_path: Path, environ: dict[str, str], told: str) -> None:
    """A variable is named as it was set."""
    assert told == complaint(tmp_path, environ=environ)[: len(told)]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"flush_every": "3x"}, "--flush-every: '3x' is not a duration | write a number with its unit"),
        ({"recorder_name": "a b"}, "--name: 'a b' is not allowed | use 1 to 32 of the characters"),
        ({"conid": ["265598", "x"]}, "--conid: 'x' is not allowed | use contract ids"),
    ],
)
def test_an_error_names_the_flag(tmp_path: Path, flags: dict[str, object], told: str) -> None:
    """A flag is named as it was typed."""
    assert told == complaint(tmp_path, flags=flags)[: len(told)]


def test_a_bad_value_that_another_wins_over_is_still_told(tmp_path: Path) -> None:
    """A typo in the file does not wait for the day when the flag is left out."""
    told = complaint(tmp_path, 'renew_every = "soon"', flags={"renew_every": "3s"})

    assert told.startswith("./recorder.toml: renew_every: 'soon' is not a duration")


def test_a_file_named_by_config_is_read_instead(tmp_path: Path) -> None:
    """`--config` wins over the recorder.toml of the folder."""
    (tmp_path / "recorder.toml").write_text('recorder_name = "a"')
    (tmp_path / "other.toml").write_text('recorder_name = "b"')

    merged = capture_settings({}, config=tmp_path / "other.toml", environ={}, folder=tmp_path)

    assert merged.recorder_name == "b"


def test_a_file_named_by_config_must_be_there(tmp_path: Path) -> None:
    """Only the file that nobody named may be missing."""
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        capture_settings({}, config=tmp_path / "other.toml", environ={}, folder=tmp_path)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are no TOML."""
    (tmp_path / "recorder.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(SettingError, match="is not TOML"):
        capture_settings({}, environ={}, folder=tmp_path)


def test_reading_commands_find_the_archive_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag, variable, file, default."""
    for variable in [name for name in os.environ if name.startswith("RECORDER_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    found = [data_folder(None)]
    (tmp_path / "recorder.toml").write_text('data = "from-file"')
    found.append(data_folder(None))
    monkeypatch.setenv("RECORDER_DATA", "from-variable")
    found += [data_folder(None), data_folder(Path("from-flag"))]

    assert [Path("data"), Path("from-file"), Path("from-variable"), Path("from-flag")] == found


@pytest.mark.parametrize("value", [{"conid": ("x",)}, {"sync_every": 0.0}, {"gateway": "ftp://a"}])
def test_settings_made_in_python_are_checked_too(value: dict[str, object]) -> None:
    """A library user meets the same rules."""
    with pytest.raises(SettingError, match="is not allowed"):
        CaptureSettings(**value)  # type: ignore[arg-type]
