"""`python -m jaxseq.sample RUN [--prime PIECE] [--melody tune.mid] [--keep soprano,bass]`: compose with a trained model."""

from __future__ import annotations

import sys

from jaxseq.common import command_line
from jaxseq.sample import compose, options


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv
    return command_line.run(
        "jaxseq.sample",
        lambda: compose.compose(options.parse_sample(words)),
        "stopped; nothing was written",
        "--count or --bars",
    )


if __name__ == "__main__":
    sys.exit(main())
