"""`python -m jaxseq.export RUN --to onnx`: write a trained model for other programs."""

from __future__ import annotations

import sys

from jaxseq.common import command_line
from jaxseq.export.write import Options, export

PROGRAM = "python -m jaxseq.export"


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv
    return command_line.run(
        "jaxseq.export",
        lambda: export(command_line.parse(Options, words, program=PROGRAM)),
        "stopped; nothing was written",
    )


if __name__ == "__main__":
    sys.exit(main())
