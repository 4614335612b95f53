"""`python -m jaxseq.sample RUN [--prime PIECE] [--melody tune.mid] [--keep soprano,bass]`: compose with a trained model."""

from __future__ import annotations

import sys

from jaxseq import command, composing
from jaxseq.errors import EXIT_INTERRUPTED, UsageError


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    try:
        composing.compose(command.parse_sample(sys.argv[1:] if argv is None else argv))
    except UsageError as error:
        print(f"jaxseq.sample: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxseq.sample: stopped; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
