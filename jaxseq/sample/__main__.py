"""`python -m jaxseq.sample RUN [--prime PIECE] [--melody tune.mid] [--keep soprano,bass]`: compose with a trained run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jaxseq.common import command_line, files
from jaxseq.sample.options import SampleOptions, parse

if TYPE_CHECKING:
    from rich.console import Console


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0, 2 for a usage error, 130 if interrupted."""
    words = sys.argv[1:] if argv is None else argv

    def work() -> Path:
        options = parse(words)
        # Imported here, so that --help and a mistyped option answer before JAX is loaded.
        from jaxseq.train import compiled_programs

        compiled_programs.keep()
        return sample(options)

    # Parsed within `run`, which reports a usage error in one line.
    return command_line.run("jaxseq.sample", work, "stopped; nothing was written", "--count or --bars")


def sample(options: SampleOptions, console: Console | None = None) -> Path:
    """Compose pieces, judge and write them; returns their folder.

    Raises `UsageError` for a request that cannot be met, before anything is written.
    """
    # Imported here for the same reason.
    from jaxseq.common.console import counter, terminal
    from jaxseq.sample import report
    from jaxseq.sample.compose import compose
    from jaxseq.sample.judge import judge
    from jaxseq.sample.request import read_request
    from jaxseq.sample.write import write

    screen = console or terminal()
    options = files.with_user_paths(options)

    request = read_request(options)
    for note in request.remarks:
        screen.print(note, highlight=False, markup=False)

    with counter(screen, "composing") as progress:
        composed = compose(request, progress)
    screen.print(report.duration(composed), highlight=False)

    judgement = judge(request, composed)

    with counter(screen, "writing") as progress:
        written = write(request, composed, judgement, progress)

    sentences = [*composed.notes, *written.notes]
    if judgement is not None:
        screen.print(report.screen_table(judgement))
        sentences = [report.memorised_sentence(judgement), report.told_apart_sentence(judgement), *sentences]
    for text in sentences:
        screen.print(text, highlight=False, markup=False)
    screen.print(f"{written.folder}: {', '.join(written.files)}, the pieces", highlight=False)
    return written.folder


if __name__ == "__main__":
    sys.exit(main())
