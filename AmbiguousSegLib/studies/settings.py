"""Settings of a study as a YAML file, from which the same study can be started; and texts that a terminal may show."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from AmbiguousSegLib.studies.places import write_whole
from AmbiguousSegLib.text_files import read_json, read_yaml

_OWN = ("config", "help", "shard", "mrb", "overwrite")  # of one run, not of the study


def printable(text: str) -> str:
    """The text with what would move the cursor, recolour or reorder a terminal's lines written as ``\\x1b``."""
    return "".join(c if c.isprintable() or c == "\xa0" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character if character == "\n" else character.encode("unicode_escape", "surrogatepass").decode("ascii")


def write_settings(path: Path, options: argparse.Namespace) -> None:
    """Write what a study was asked for: a line of YAML for each option, its value as JSON, which is YAML.

    Raises:
        OSError: it cannot be written.
    """
    content = {key: _plain(value) for key, value in settings_of(options).items()}
    lines = ["# Settings of this study: ambiguousseg study --config study.yaml --out FOLDER"]
    lines += [f"{key}: {json.dumps(value)}" for key, value in content.items()]
    write_whole(path, "\n".join([*lines, ""]).encode(errors="backslashreplace"))


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options that settle a study, inputs as absolute paths."""
    found = {key: value for key, value in vars(options).items() if key not in (*_OWN, "models", "progress")}
    found["inputs"] = [path.absolute() for path in options.inputs]
    found["model"] = [model.absolute() for model in options.models]
    found["out"] = options.out.absolute()
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def with_config(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """The command line with what ``--config`` names before it: what is given in both counts as in the command line.

    Raises:
        ValueError, OSError: a file that cannot be read, or holds another setting. ImportError: YAML without PyYAML.
    """
    quiet = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    quiet.add_argument("--config", type=Path)
    config, rest = quiet.parse_known_args(list(arguments))
    if config.config is None:
        return list(arguments)
    content = read_json(config.config) if config.config.suffix.lower() == ".json" else read_yaml(config.config)
    actions = {action.dest: action for action in parser._actions if action.dest not in _OWN}
    if not isinstance(content, Mapping) or (unknown := sorted(set(map(str, content)) - set(actions))):
        told = f"unknown: {unknown[0]}" if isinstance(content, Mapping) else "it holds no settings"
        raise ValueError(f"{config.config}: {told}; it takes {', '.join(actions)}.")
    given = {action.dest for action in actions.values() if any(_is_given(text, action) for text in rest)}
    words: list[str] = []
    for key, value in content.items():
        if key in given or value is None or value is False:
            continue
        option = actions[key].option_strings
        for entry in value if isinstance(value, list) else [value]:
            pair = isinstance(entry, list)  # NAME=VALUE of an option
            text = "=".join(map(str, entry)) if pair else str(entry)
            words += [text] if not option else [option[0]] if value is True else [f"{option[0]}={text}"]
    if parser.parse_args(rest).inputs:
        words = [word for word in words if word.startswith("-")]
    return [*words, *rest]


def _is_given(text: str, action: argparse.Action) -> bool:
    return any(text == option or text.startswith(f"{option}=") for option in action.option_strings)
