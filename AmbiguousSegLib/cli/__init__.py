"""Command line: one module per subcommand, imported when it is asked for."""

from __future__ import annotations

import importlib
import logging
import sys

SUBCOMMANDS = {
    "prepare": "read and check data once, and keep it in a form that trains fast",
    "sample": "sample plausible segmentations of a volume or image",
    "study": "sample many volumes, and write one table of all",
    "plan": "write a training configuration that fits the data and this machine",
    "train": "train a method from a configuration file",
    "evaluate": "score models, or masks predicted elsewhere, against several raters on held-out cases",
    "calibrate": "fit what a model's samples are worth to several raters of validation cases",
    "benchmark": "train, sample and judge a list of systems alike, and print one table",
    "compare": "compare the samples of a volume with several raters' segmentations",
    "import": "import a published checkpoint",
    "models": "list, install, verify or remove models",
    "phantom": "write phantom cases or a phantom volume with raters",
}

_LESS = {  # memory
    "train": "make dataset.size, optimisation.batch_size or the network smaller",
    "benchmark": "take fewer --jobs, or a smaller network",
    **dict.fromkeys(("evaluate", "calibrate"), "take a smaller --batch-size, or fewer --cases"),
    "import": "import it on a machine with more",
    **dict.fromkeys(("plan", "prepare"), "close other programs, or take a part of the data"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; the exit code: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # on Windows a redirected one is not UTF-8 and lacks characters of ours
            stream.reconfigure(errors="replace")
    from AmbiguousSegLib.cli.common import CommandError, program
    from AmbiguousSegLib.files import said

    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {program('SUBCOMMAND')} …\n")
        for subcommand, text in SUBCOMMANDS.items():
            print(f"  {subcommand:11s}{text}")
        print(f"\n{program('SUBCOMMAND')} --help says more.")
        return 0 if arguments else 2
    subcommand, rest = arguments[0], arguments[1:]
    if subcommand not in SUBCOMMANDS:
        print(f"error: unknown subcommand {subcommand!r}; known: {', '.join(SUBCOMMANDS)}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    name = "import_" if subcommand == "import" else subcommand  # a module cannot be called import
    module = importlib.import_module(f"AmbiguousSegLib.cli.{name}")
    try:
        return module.main(rest)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (CommandError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, MemoryError, RuntimeError, FloatingPointError) as error:
        told = said(error, _LESS[subcommand]) if subcommand in _LESS else said(error)
        print(f"error: {told}", file=sys.stderr)
        return 1
