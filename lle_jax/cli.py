"""The command `lle`: each subcommand parses its arguments, calls the library and prints.

Exit status: 0 if all went well, 1 if some files failed (each is named at the end), 2 if nothing
could be started, with the reason in one line; 75 and 130 after SIGTERM and SIGINT.
"""

import argparse
import contextlib
import glob
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import lle_jax
from lle_jax import console, interrupt
from lle_jax.commands import (
    ablate,
    adapt,
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
    adapt,
    train,
    evaluate,
    compare,
    ablate,
    reader_study,
    release,
    export,
    import_weights,
)

# Those whose `run` puts what was done into `arguments.document`.
WITH_JSON = (degrade, quantify, fit, enhance, adapt, evaluate, compare)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _check_inputs(inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuses a path that does not exist before anything heavy is imported."""
    for path in (os.fspath(given) for given in inputs):
        if path != "-" and not glob.has_magic(path) and not os.path.lexists(path):
            raise ValueError(f"{path}: no such file or folder; check the path")


class _Completion(argparse.Action):
    """Prints what a shell needs to complete the command, and ends."""

    def __call__(self, parser, namespace, values, option_string=None):
        import shtab

        # a name in capitals is a path, but for those that no file can be
        words = {"N", "NAME", "NETWORK", "LEVEL", "LIST"}
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        for action in (a for each in commands.choices.values() for a in each._actions):
            if isinstance(action.metavar, str) and not {action.metavar} & words:
                action.complete = shtab.FILE
        print(shtab.complete(parser, values))
        parser.exit()


def _parser() -> _Parser:
    parser = _Parser(prog="lle", description="Degrade, measure and enhance low-light images.")
    parser.add_argument("--version", action="version", version=f"lle_jax {lle_jax.__version__}")
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        help='completion for a shell; bash: eval "$(lle --print-completion bash)"',
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in MODULES:
        module.add(commands)
        command = next(reversed(commands.choices.values()))
        amount = command.add_mutually_exclusive_group()
        amount.add_argument(
            "-q", "--quiet", action="store_true", help="print results and errors only"
        )
        amount.add_argument(
            "-v", "--verbose", action="store_true", help="also print debugging, and where it failed"
        )
        if module in WITH_JSON:
            command.add_argument(
                "--json",
                action="store_true",
                help="print one JSON document with what was done, and all else on standard error",
            )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand and returns the exit status."""
    arguments = _parser().parse_args(argv)
    arguments.document = {}
    as_json = getattr(arguments, "json", False)
    with console.verbosity(quiet=arguments.quiet, verbose=arguments.verbose):
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            status, reason = _run(arguments)
        if as_json:
            _print_json({"status": status} | ({"error": reason} if reason else arguments.document))
    return status


def _run(arguments: argparse.Namespace) -> tuple[int, str]:
    """Returns the exit status, and in one line why nothing could be done, or ""."""
    try:
        with interrupt.raised():
            _check_inputs(getattr(arguments, "inputs", ()))
            from absl import logging

            logging.set_verbosity(logging.ERROR)  # Orbax warns of what it does
            return arguments.run(arguments), ""
    except (ValueError, OSError) as error:
        console.LOGGER.debug("this is where it failed", exc_info=True)
        status, reason = 2, _said(error)
    except interrupt.Interrupted as stop:
        status, reason = stop.status, f"{stop}: the same command resumes"
    print(f"lle {arguments.command}: {reason}", file=sys.stderr)
    return status, reason


def _said(error: ValueError | OSError) -> str:
    """The message in one line; an error of the system by the name of the file."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{os.fspath(error.filename)}: {error.strerror.lower()}; check the path"
    return str(error)


def _print_json(document: dict[str, Any]) -> None:
    from lle_jax import jobs  # after the command, which has imported it

    print(json.dumps(jobs.plain(document), allow_nan=False, default=str))
