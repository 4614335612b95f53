"""`python -m jaxseq.train [EXPERIMENT] [--field value ...]`: train and judge one run, or one for each seed and fold."""

from __future__ import annotations

import sys

from jaxseq.common import command_line
from jaxseq.train import options, processes, run, study

PROGRAM = "jaxseq.train"


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted.

    One of several processes that failed does not return, but ends with its status; it is 1 where another was lost.
    """
    words = sys.argv[1:] if argv is None else argv
    return processes.leave(command_line.run(PROGRAM, lambda: _train(words), "stopped before the training began"))


def _train(words: list[str]) -> None:
    asked = options.parse(words)
    with processes.joined(asked.mesh, PROGRAM):
        if asked.seeds > 1 or asked.backtest > 1:
            study.study(asked.experiment, asked.seeds, asked.backtest, asked.out, classical=asked.classical)
        else:
            run.train(asked.experiment, asked.out, asked.resume, classical=asked.classical)


if __name__ == "__main__":
    sys.exit(main())
