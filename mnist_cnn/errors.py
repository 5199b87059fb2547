"""How errors speak: one line for what a user can mend, a traceback for a bug."""

import functools
import sys
import traceback
from collections.abc import Callable


class InputError(Exception):
    """Something a user can mend: names the thing, what was expected and what to do."""


def reported(main: Callable[[], None], exit_code: int = 1) -> Callable[[], None]:
    """Decorate a command's `main`: an `InputError` becomes one line on stderr, any other error is a
    bug and keeps its traceback; both end with `exit_code`. Ctrl-C ends with exit code 130."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except Exception:
            traceback.print_exc()
            sys.exit(exit_code)

    return run
