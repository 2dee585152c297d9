"""Settings as users give them.

1. A flag wins over a `RECORDER_*` variable, that over `recorder.toml`, that over the default.
2. Every name and value given is checked, also one that another wins over: a typo is never passed over.
3. An error names the flag, the variable or the file and its key, what was given, and what is allowed.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

from msgspec import Meta

from recorder.capture.settings import CaptureSettings, check_setting
from recorder.cli.durations import format_duration, parse_duration
from recorder.cli.options import split
from recorder.cli.sizes import format_size, parse_size
from recorder.errors import SettingError, UsageError
from recorder.protocol.topics import nearest

CONFIG: Final = "recorder.toml"
PREFIX: Final = "RECORDER_"
FLAGS: Final[Mapping[str, str]] = {"recorder_name": "--name"}
"""The settings whose flag is not the key itself."""

Unit = Literal["duration", "duration or never", "size", "list", "number", "yes or no", "folder", "file", "text"]


class Setting(NamedTuple):
    """What is known of one setting: its key, what it means, how it is written, its default."""

    key: str
    doc: str
    unit: Unit
    default: Any

    @property
    def flag(self) -> str:
        """The flag of `recorder capture` that sets it."""
        return FLAGS.get(self.key, f"--{self.key.replace('_', '-')}")

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"{PREFIX}{self.key.upper()}"

    @property
    def default_toml(self) -> str:
        """The default as `recorder.toml` writes it; nothing is the empty text."""
        return _WRITERS[self.unit](self.default)


def capture_settings(
    flags: Mapping[str, object],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> CaptureSettings:
    """Merge flags (by setting key; None, False or an empty list: not given), variables, the file and the defaults.

    `config` is the file that `--config` names; without it `recorder.toml` in `folder` (default: the current one) is
    read if there is one. Raises `SettingError`.
    """
    values = _from_file(config, Path() if folder is None else folder)
    values |= _from_environ(os.environ if environ is None else environ)
    values |= _from_flags(flags)
    return CaptureSettings(**values)


def data_folder(flag: Path | None, config: Path | None = None) -> Path:
    """Find the archive's folder for commands that only read: `--data`, variable, file, default."""
    return capture_settings({"data": flag}, config=config).data


def _from_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    given = {key: value for key, value in flags.items() if not (value is None or value is False or value in ([], ()))}
    return {key: _read(SETTINGS[key], value, where=SETTINGS[key].flag) for key, value in given.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    keys = {setting.variable: setting for setting in SETTINGS.values()}
    values = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in keys:
            raise SettingError(f"unknown variable {variable}", hint=nearest(variable, keys))
        values[keys[variable].key] = _read(keys[variable], text, where=variable)
    return values


def _from_file(config: Path | None, folder: Path) -> dict[str, Any]:
    path = folder / CONFIG if config is None else config
    if config is None and not path.exists():
        return {}
    values = {}
    for key, value in _read_toml(path).items():
        if key not in SETTINGS:
            raise SettingError(f"{path}: unknown key {key!r}", hint=nearest(key, SETTINGS))
        values[key] = _read(SETTINGS[key], value, where=f"{path}: {key}", typed=True)
    return values


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise SettingError(
            f"{path} cannot be read: {exc.strerror}", hint="name the file of settings with --config"
        ) from exc
    except ValueError as exc:  # not TOML, or not UTF-8
        raise SettingError(f"{path} is not TOML: {exc}", hint="compare it with recorder.example.toml") from exc


def _read(setting: Setting, given: object, *, where: str, typed: bool = False) -> Any:
    """Turn what was given into the setting's value; `typed` values come from TOML, the others are text or flags."""
    try:
        value = (_TYPED_READERS if typed else _READERS)[setting.unit](given)
    except UsageError as exc:
        raise SettingError(f"{where}: {exc}", hint=exc.hint) from exc
    check_setting(setting.key, value, where=where, given=None if setting.unit == "list" else given)
    return value


def _list(given: object) -> tuple[str, ...]:
    values = given if isinstance(given, list | tuple) else [given]
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        raise UsageError(f"{given!r} is not a list", hint='write a list of texts, such as ["265598", "8314"]')
    return split([str(value) for value in values])


def _number(given: object) -> int:
    try:
        return int(str(given))
    except ValueError:
        raise UsageError(f"{given!r} is not a whole number", hint="write digits only, such as 2_000_000") from None


def _yes_or_no(given: object) -> bool:
    truth = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return truth[str(given).lower()]
    except KeyError:
        raise UsageError(f"{given!r} is neither true nor false", hint="write true or false") from None


def _folder(given: object) -> Path:
    if not str(given):
        raise UsageError("'' is not a folder", hint="write a path")
    return Path(str(given)).expanduser()


def _duration_or_never(given: object) -> float | None:
    return None if given == "never" else parse_duration(str(given))


def _file(given: object) -> Path | None:
    return Path(str(given)).expanduser() if str(given) else None


def _text(given: object) -> str:
    return str(given)


def _strict(read: Callable[[Any], Any], kind: type, example: str) -> Callable[[Any], Any]:
    """Let a reader have only TOML values of one type."""

    def read_typed(given: object) -> Any:
        if not isinstance(given, kind) or (isinstance(given, bool) and kind is not bool):
            raise UsageError(f"{given!r} is not what this key takes", hint=f"write it as {example}")
        return read(given)

    return read_typed


_READERS: Final[Mapping[Unit, Callable[[Any], Any]]] = {
    "duration": parse_duration,
    "duration or never": _duration_or_never,
    "size": parse_size,
    "list": _list,
    "number": _number,
    "yes or no": _yes_or_no,
    "folder": _folder,
    "file": _file,
    "text": _text,
}
_TYPED_READERS: Final[Mapping[Unit, Callable[[Any], Any]]] = {
    "duration": _strict(parse_duration, str, 'text with a unit, such as "15m"'),
    "duration or never": _strict(_duration_or_never, str, 'text, such as "1h" or "never"'),
    "size": _strict(parse_size, str, 'text with a unit, such as "256MB"'),
    "list": _list,
    "number": _strict(_number, int, "a whole number"),
    "yes or no": _strict(_yes_or_no, bool, "true or false"),
    "folder": _strict(_folder, str, "text in quotes"),
    "file": _strict(_file, str, "text in quotes"),
    "text": _strict(_text, str, "text in quotes"),
}


def _quoted(value: object) -> str:
    return f'"{"" if value is None else value}"'


_WRITERS: Final[Mapping[Unit, Callable[[Any], str]]] = {
    "duration": lambda value: _quoted(format_duration(value)),
    "duration or never": lambda value: _quoted("never" if value is None else format_duration(value)),
    "size": lambda value: _quoted(format_size(value)),
    "list": lambda values: f"[{', '.join(map(_quoted, values))}]",
    "number": lambda value: f"{value:_}",
    "yes or no": lambda value: str(value).lower(),
    "folder": _quoted,
    "file": _quoted,
    "text": _quoted,
}


def _settings() -> dict[str, Setting]:
    """Read the settings off the struct: unit from the type, meaning from its annotation."""
    hints = get_type_hints(CaptureSettings, include_extras=True)
    defaults = CaptureSettings()
    return {key: _setting(key, hints[key], getattr(defaults, key)) for key in CaptureSettings.__struct_fields__}


def _setting(key: str, hint: Any, default: object) -> Setting:
    metas = [meta for meta in hint.__metadata__ if isinstance(meta, Meta)]
    doc = next(meta.description for meta in metas if meta.description)
    units = [meta.extra["unit"] for meta in metas if meta.extra]
    return Setting(key, doc, units[0] if units else _unit(get_args(hint)[0]), default)


def _unit(kind: Any) -> Unit:
    if get_origin(kind) is tuple:
        return "list"
    units: dict[Any, Unit] = {bool: "yes or no", int: "number", str: "text", Path: "folder", Path | None: "file"}
    return units[kind]


SETTINGS: Final[Mapping[str, Setting]] = _settings()
