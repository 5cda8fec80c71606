"""The command `lle`: each subcommand parses its arguments, calls the library and prints.

Exit status: 0 if all went well, 1 if some files failed (each is named at the end), 2 if nothing
could be started, with the reason in one line; 75 and 130 after SIGTERM and SIGINT.
"""

import argparse
import glob
import os
import sys
from collections.abc import Iterable

import lle_jax
from lle_jax import interrupt
from lle_jax.commands import (
    ablate,
    compare,
    degrade,
    enhance,
    evaluate,
    export,
    fit,
    import_weights,
    quantify,
    reader_study,
    release,
    train,
)

MODULES = (
    degrade,
    quantify,
    fit,
    enhance,
    train,
    evaluate,
    compare,
    ablate,
    reader_study,
    release,
    export,
    import_weights,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _check_inputs(inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuses a path that does not exist before anything heavy is imported."""
    for path in (os.fspath(given) for given in inputs):
        if path != "-" and not glob.has_magic(path) and not os.path.lexists(path):
            raise ValueError(f"{path}: no such file or folder; check the path")


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand and returns the exit status."""
    parser = _Parser(prog="lle", description="Degrade, measure and enhance low-light images.")
    parser.add_argument("--version", action="version", version=f"lle_jax {lle_jax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in MODULES:
        module.add(commands)
    arguments = parser.parse_args(argv)
    try:
        with interrupt.raised():
            _check_inputs(getattr(arguments, "inputs", ()))
            return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"lle {arguments.command}: {error}", file=sys.stderr)
        return 2
    except interrupt.Interrupted as stop:
        print(f"lle {arguments.command}: {stop}: the same command resumes", file=sys.stderr)
        return stop.status
