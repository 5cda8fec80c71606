"""The errors of the image door, and what turns every failure of a decoder into one of them."""

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2


class ImageError(ValueError):
    """An image file cannot be read or written; the message is one line: file, reason, remedy."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """A path does not exist."""

    # OSError's own __str__ would show its arguments as an errno and a strerror
    __str__ = ValueError.__str__


def shown(path: str | os.PathLike) -> str:
    """Returns `path` on one printable line, whatever bytes its name holds."""
    return "".join(c if c.isprintable() else "?" for c in os.fspath(path))


@contextlib.contextmanager
def naming(path: Path, damaged: str) -> Iterator[None]:
    """Raises every failure inside as an `ImageError` that starts with `path`.

    The message of a decoder's own exception is dropped, and so is the exception itself: both may
    quote what the file holds, which in a DICOM object is the patient.

    Args:
      path: the file that is being read or written.
      damaged: what to say, and advise, when a library fails without a reason of ours.
    """
    try:
        yield
    except ImageError as error:
        raise type(error)(f"{shown(path)}: {error}") from None
    except FileNotFoundError:
        raise ImageNotFoundError(f"{shown(path)}: no such file or folder; check the path") from None
    except PermissionError:
        raise ImageError(f"{shown(path)}: permission denied; check its access rights") from None
    except MemoryError:
        raise ImageError(f"{shown(path)}: not enough memory; read fewer frames at once") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise ImageError(f"{shown(path)}: {damaged} ({reason})") from None
    except Exception as error:
        kind = type(error)
        reason = f"{kind.__module__}.error" if kind.__name__ == "error" else kind.__name__
        raise ImageError(f"{shown(path)}: {damaged} ({reason})") from None


_LOCK = threading.RLock()
# OpenCV 5 moved it; level 0 is silent in both
_set_opencv_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
_LOGGERS = ("pydicom", "tifffile", "PIL")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the libraries' warnings and logs, which quote values (names, dates) from the file.

    What it switches off belongs to the whole process, so one thread at a time is let in.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loggers = [logging.getLogger(name) for name in _LOGGERS]
        loggers += [
            logging.getLogger(name)
            for name in tuple(logging.root.manager.loggerDict)
            if name.startswith(tuple(f"{n}." for n in _LOGGERS))
        ]
        before = [logger.disabled for logger in loggers]
        level = _set_opencv_log_level(0)
        for logger in loggers:
            logger.disabled = True
        try:
            yield
        finally:
            _set_opencv_log_level(level)
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled
