"""Runs the command line: ``python -m AmbiguousSegLib <subcommand> …``."""

from AmbiguousSegLib.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
