"""Error reporting: one line for user errors, tracebacks for bugs."""

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(Exception):
    """A problem the user can fix. The message names the thing, what was expected and what to do."""


def report_errors(main: Callable[[], None], exit_code: int = 1) -> Callable[[], None]:
    """Decorate a command's `main` so that an `InputError` is printed as one line.

    Any other exception is a bug and keeps its traceback. Both exit with `exit_code`, Ctrl-C with
    130, and a reader that closes the pipe, such as `head`, with 141 (128 + SIGPIPE).
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            try:
                main()
            finally:
                sys.stdout.flush()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except Exception:
            traceback.print_exc()
            sys.exit(exit_code)

    return run


def describe_exception(error: Exception) -> str:
    """The message of an exception on one line; for an `OSError`, the system's reason alone."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    reason = getattr(error, "strerror", None) or str(message)
    return " ".join(reason.split()) or type(error).__name__


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Discard what compiled libraries write to stderr regardless of their log level."""
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
