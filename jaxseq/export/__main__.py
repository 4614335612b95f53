"""`python -m jaxseq.export RUN --to onnx`: write a trained model for other programs."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxseq.common import command_line, files, sealed, written
from jaxseq.common.console import say
from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable
from jaxseq.export import formats

PROGRAM = "python -m jaxseq.export"
RECORD = "export.json"
"""The record of the written files, by which a second call knows that they are its own."""
CARD = "README.md"


@dataclass(frozen=True)
class Options:
    """Write a trained model for other programs, with a card that says what it is and how it is called.

    stablehlo and onnx hold the whole model for any number of rows: a forecast from values to values, with its intervals;
    of chorales, from notes to the log-probabilities of each note; of piano rolls, from frames to the next one. Each is
    checked against the run before it is written. safetensors holds the weights, and torch those of a forecaster.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    to: Annotated[str, tyro.conf.arg(help=f"Formats, separated by commas: {', '.join(formats.NAMES)}.")] = "stablehlo"
    out: Path | None = None
    """Folder to write into, new or that of an earlier export; None takes RUN-export beside the run."""
    epoch: int | None = None
    """Saved epoch to export; None takes the one that was judged, or the best one so far."""
    licence: str = "other"
    """Licence of the model for its card, by its name on the Hugging Face hub, such as apache-2.0."""
    overwrite: bool = False
    """Write into a folder that holds other files, and replace those of the same names."""

    def __post_init__(self) -> None:
        # The card's metadata is YAML, in which other characters have a meaning.
        if not re.fullmatch(r"[A-Za-z0-9.+-]+", self.licence):
            raise UsageError("no name of a licence", where="--licence", got=self.licence, needed="such as apache-2.0")


def export(options: Options) -> Path:
    """Write the files; return their folder. Raises `UsageError` for a run that has no such form, before it writes."""
    names = formats.check_names(options.to)
    # Imported here, so that --help and a mistyped option answer before JAX is loaded.
    from jaxseq.export import card
    from jaxseq.train.restore import restore

    folder = files.user_path(options.run)
    out = _folder(options, folder)
    run = restore(folder, options.epoch)
    formats.check_taken(names, run)

    # All of them before the first is written: a format that cannot be had leaves nothing behind.
    contents: dict[str, bytes] = {}
    for name in names:
        contents |= formats.named(name).files(run)
    contents[CARD] = card.card(run, folder, names, options.licence).encode()

    record = out / RECORD
    if not options.overwrite:
        _check_same_model(record, folder.name, run.epoch)
        written.check(record, contents)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.cannot_write(out, error) from error
    written.write(record, contents, run=str(folder.name), epoch=run.epoch)
    say(f"{out}: {', '.join(f'{name} ({len(content):,} bytes)' for name, content in contents.items())}")
    return out


def _folder(options: Options, run: Path) -> Path:
    """Return the folder to write into.

    Raises `UsageError` for one of the run, and, without --overwrite, for one that holds anything but an earlier export.
    """
    place = run
    # A dot has no name to begin with.
    if run.name in ("", ".."):
        place = run.resolve()
    out = place.with_name(f"{place.name}-export")
    if options.out is not None:
        out = files.user_path(options.out)

    where = f"--out {printable(str(out))}"
    try:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(run)):
            raise UsageError("lies in the run, whose files are sealed", where=where, needed="another folder")
        if os.path.lexists(out) and not out.is_dir():
            raise UsageError("is no folder", where=where, needed="a folder, or a new name")
        is_export = os.path.lexists(out / RECORD)
        others = [] if is_export or not out.is_dir() else sorted(path.name for path in out.iterdir())
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror or error}", where=where) from error
    if others and not options.overwrite:
        raise UsageError(
            f"holds other files than an export: {printable(others[0])}",
            where=where,
            needed="another folder, or --overwrite to write into it",
        )
    return out


def _check_same_model(record: Path, run: str, epoch: int) -> None:
    """Raise `UsageError` if a folder has an export of another run or epoch: its card would describe one of the two."""
    if not record.is_file():
        return
    earlier = sealed.read(record)
    if (earlier.get("run"), earlier.get("epoch")) != (run, epoch):
        raise UsageError(
            "an export of another model is there",
            where=record,
            got=f"{earlier.get('run')}, epoch {earlier.get('epoch')}",
            needed=f"{run}, epoch {epoch}; another --out, or --overwrite",
        )


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
