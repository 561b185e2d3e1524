"""``models``: the bundled and the installed models; without torch, so that it answers at once."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from AmbiguousSegLib.cli.common import CommandError, program, progress_bar
from AmbiguousSegLib.model_store.store import (
    NameTakenError,
    Steps,
    StoredModel,
    T,
    finish,
    installation,
    list_models,
    remove,
    verification,
)
from AmbiguousSegLib.resources import find_model, models_folder

HELP = "list, install, verify or remove models"


def main(arguments: list[str]) -> int:
    """Run the subcommand; its exit code, 1 if a model that was verified is damaged."""
    options = _parser().parse_args(arguments)
    return {"list": _list, "install": _install, "verify": _verify, "remove": _remove}[options.action](options)


def _list(options: argparse.Namespace) -> int:
    models = list_models()
    if options.json:
        print(json.dumps({"folder": str(models_folder()), "models": [_entry(model) for model in models]}, indent=2))
        return 0
    for model in models:
        print(f"{model.name} ({model.source}): {_in_words(model)}")
    print(f"Models are installed into {models_folder()}.")
    return 0


def _install(options: argparse.Namespace) -> int:
    try:
        model = _told("installing", installation(options.source, options.name, options.replace))
    except NameTakenError as error:
        raise CommandError(f"Another model {error.name!r} is installed; add --replace, or another --name.") from error
    print(f"{model.name}: installed into {model.folder}; its weights are those that it names.")
    return 0


def _verify(options: argparse.Namespace) -> int:
    named = [(name, find_model(name)) for name in options.names]
    problems = 0
    for name, folder in named or [(model.name, model.folder) for model in list_models()]:
        problem = _told(name, verification(folder))
        problems += bool(problem)
        print(f"{name}: {problem or 'verified, the weights are those that it names.'}")
    return 1 if problems else 0


def _remove(options: argparse.Namespace) -> int:
    remove(options.name)
    print(f"{options.name}: removed.")
    return 0


def _told(what: str, steps: Steps[T]) -> T:
    with progress_bar(what) as tell:
        return finish(steps, tell)


def _in_words(model: StoredModel) -> str:
    if model.description is None:
        return model.problem
    labels = ", ".join(label.name for label in model.description.labels)
    return f"marks {labels}; reads {', '.join(model.description.channels)}"


def _entry(model: StoredModel) -> dict[str, object]:
    described = model.description
    return {
        "name": model.name,
        "source": model.source,
        "folder": str(model.folder),
        "labels": None if described is None else [label.name for label in described.labels],
        "channels": None if described is None else list(described.channels),
        "weights_sha256": None if described is None else described.weights_sha256,
        "problem": model.problem or None,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program("models"), description=HELP, allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | install | verify | remove")
    listing = actions.add_parser("list", help="the bundled and the installed models")
    listing.add_argument("--json", action="store_true", help="as JSON, with the folder and the checksum of each")
    install = actions.add_parser("install", help="copy a model into the folder of installed models, and check it")
    install.add_argument("source", type=Path, help="folder or zip with model.json and model.safetensors")
    install.add_argument("--name", help="by which it shall be known (default: that of the folder)")
    install.add_argument("--replace", action="store_true", help="another model of that name may go")
    verify = actions.add_parser("verify", help="compare the weights with the checksum that the model names")
    verify.add_argument("names", nargs="*", metavar="MODEL", help="name or folder (default: all there are)")
    actions.add_parser("remove", help="remove an installed model").add_argument("name", help="its name")
    return parser
