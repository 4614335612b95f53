"""How a command ends: with a status, and in one line if something stopped it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from jaxseq.common.errors import EXIT_INTERRUPTED, EXIT_USAGE, Ended, UsageError, first_line


def run(program: str, work: Callable[[], object], stopped: str, smaller: str = "window, batch or model") -> int:
    """Do a command's work; the exit status: what the work returns if that is one, else 0; 2 for a mistake of the user, 1 if
    another process was lost, 130 or 143 if a signal stopped it.

    A mistake, a signal or a lack of memory is told in one line on stderr: of Ctrl-C what `stopped` says, of memory that
    `smaller` would help. Every other exception is ours, and raised.
    """
    try:
        status = work()
    except UsageError as error:
        return _told(program, error, EXIT_USAGE)
    except Ended as end:
        return _told(program, end, end.status)
    except KeyboardInterrupt:
        return _told(program, stopped, EXIT_INTERRUPTED)
    except (MemoryError, RuntimeError, ValueError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX's word for it
            raise
        return _told(program, f"not enough memory ({first_line(error)}): take a smaller {smaller}", EXIT_USAGE)
    return status if isinstance(status, int) else 0


def _told(program: str, why: object, status: int) -> int:
    print(f"{program}: {why}", file=sys.stderr)
    return status
