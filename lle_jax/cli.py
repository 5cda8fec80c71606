"""The command `lle`: each subcommand parses its arguments, calls the library and prints.

Exit status: 0 if all went well, 1 if some files failed (each is named at the end), 2 if nothing
could be started, with the reason in one line.
"""

import argparse
import sys

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
)

MODULES = (
    degrade,
    quantify,
    fit,
    enhance,
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


def main(argv: list[str] | None = None) -> int:
    """Runs one subcommand and returns the exit status."""
    parser = _Parser(prog="lle", description="Degrade, measure and enhance low-light images.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in MODULES:
        module.add(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"lle {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"lle {arguments.command}: stopped; the same command resumes", file=sys.stderr)
        return 130
