"""The course's commands: `python -m quant_tutorial report MODEL --data DATA.npz` (lesson 12)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 2 for an error that is the caller's."""
    parser = argparse.ArgumentParser(prog="python -m quant_tutorial")
    commands = parser.add_subparsers(dest="command", required=True)
    about = "check, quantize, diagnose and mend a Keras model, and write a page about it"
    chosen = commands.add_parser("report", help=about, description=about)
    # Only what the command needs is imported, and only once it is known to be called for.
    from quant_tutorial.report import command

    command.add_arguments(chosen)
    given = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        print(command.run(given))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with "--input-range" and "-1,1" as one, which argparse would refuse."""
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] == "--input-range":
            found[-1] = f"--input-range={argument}"
        else:
            found.append(argument)
    return found


if __name__ == "__main__":
    sys.exit(main())
