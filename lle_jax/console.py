"""How much a command says: results and errors always, the rest as -q and -v ask for."""

import contextlib
import logging
import sys
from collections.abc import Iterator

LOGGER = logging.getLogger("lle_jax")


def is_quiet() -> bool:
    """Tells whether notes and progress are off."""
    return LOGGER.level >= logging.ERROR


def note(text: str) -> None:
    """Prints a line that is neither a result nor an error."""
    if not is_quiet():
        print(text, flush=True)


@contextlib.contextmanager
def verbosity(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Sets what is said inside: errors and results only, or also the log down to debugging."""
    level, handler = LOGGER.level, logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    if quiet:
        LOGGER.setLevel(logging.ERROR)
    if verbose:
        LOGGER.setLevel(logging.DEBUG)
        LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
        LOGGER.removeHandler(handler)
