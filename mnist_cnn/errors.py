"""Error reporting: one line for user errors, tracebacks for bugs."""

import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Completes the message about a package that isn't installed.
INSTALL_PIPELINE = (
    "expected the extra `pipeline`; in a clone, `pip install '.[pipeline]'` installs it"
)


class InputError(Exception):
    """A problem the user can fix. The message says what is wrong, what was expected, what to do."""


def report_errors(main: Callable[[], None], exit_code: int = 1) -> Callable[[], None]:
    """Decorate a command's `main` so that an `InputError` is printed as one line.

    So is a full disk and a closed standard output. Any other exception is a bug and keeps its
    traceback. All exit with `exit_code`. Ctrl-C exits with 130. If the reader closes the pipe, as
    `head` does, the command exits with 141 (SIGPIPE).
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            if sys.stdout is None:
                raise InputError(
                    "standard output is closed: expected it open; redirect it to a file"
                )
            try:
                main()
            finally:
                sys.stdout.flush()
        except InputError as error:
            print("error:", printable(str(error), kept="\n"), file=sys.stderr)
            sys.exit(exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            _discard_output()
            sys.exit(141)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                _discard_output()
                place = printable(str(error.filename or "output"))
                print(
                    f"error: {place} cannot be written ({error.strerror}): expected free space; "
                    "free some, or write elsewhere",
                    file=sys.stderr,
                )
            else:
                traceback.print_exc()
            sys.exit(exit_code)

    return run


def _discard_output() -> None:
    """Keep Python from flushing stdout again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(message: str) -> None:
    print("warning:", printable(message, kept="\n"), file=sys.stderr)


def printable(text: str, kept: str = "") -> str:
    """Escape the characters that a terminal wouldn't print but obey, other than those `kept`."""
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )


def describe_exception(error: Exception) -> str:
    """Return an exception's message on one printable line; for an `OSError`, only the system's
    reason."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    reason = getattr(error, "strerror", None) or str(message)
    return printable(" ".join(reason.split())) or type(error).__name__


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Discard stderr, to which compiled libraries write regardless of their log level."""
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
