"""SIGTERM and SIGINT, answered where the work can be left."""

import contextlib
import signal
import threading
from collections.abc import Iterator

STATUS = {signal.SIGTERM: 75, signal.SIGINT: 130}  # EX_TEMPFAIL: the same command goes on
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """The process was told to stop; not an error, so that no `except Exception` swallows it.

    Attributes:
      status: the exit status.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = STATUS[signal.Signals(number)]


class Pending:
    """A signal that has come and waits to be answered, in `deferred`."""

    def __init__(self) -> None:
        self.number: int | None = None

    def check(self) -> None:
        """Raises Interrupted if a signal has come."""
        if self.number is not None:
            raise Interrupted(self.number)


def _raise(number: int, _frame: object) -> None:
    raise Interrupted(number)


@contextlib.contextmanager
def _handled(handler) -> Iterator[None]:
    """Signals can be handled by the main thread alone; in another one nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def raised():
    """Raises Interrupted as soon as a signal comes; used as a context."""
    return _handled(_raise)


@contextlib.contextmanager
def deferred() -> Iterator[Pending]:
    """Holds signals back until `Pending.check`, or its own end; a second SIGINT interrupts at once.

    An exception that is raised at any moment can be swallowed, or leave a save half done.
    """
    pending = Pending()

    def note(number: int, frame: object) -> None:
        if pending.number == number == signal.SIGINT:
            _raise(number, frame)
        pending.number = number

    with _handled(note):
        yield pending
    pending.check()  # none that came after the last check is lost
