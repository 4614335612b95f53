"""`python -m jaxseq.train [EXPERIMENT] [--field value ...]`: train and judge one run, or one for each seed and fold."""

from __future__ import annotations

import sys

from jaxseq import command, study, training
from jaxseq.errors import EXIT_INTERRUPTED, Interrupted, UsageError


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 2 for a mistake of the user, 130 if interrupted."""
    try:
        asked = command.parse(sys.argv[1:] if argv is None else argv)
        if asked.seeds > 1 or asked.backtest > 1:
            study.study(asked.experiment, asked.seeds, asked.backtest, asked.out, classical=asked.classical)
        else:
            training.train(asked.experiment, asked.out, asked.resume, classical=asked.classical)
    except UsageError as error:
        print(f"jaxseq.train: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"jaxseq.train: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print("jaxseq.train: stopped before the training began", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX's word for it
            raise
        first = next(iter(str(error).splitlines()), "")
        print(f"jaxseq.train: not enough memory ({first}): take a smaller window, batch or model", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
