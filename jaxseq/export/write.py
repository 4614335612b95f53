"""Write a trained model for other programs: `export` with `Options`, in Python or by the command."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple

import tyro

from jaxseq.common import files, sealed, written
from jaxseq.common.console import say
from jaxseq.common.errors import UsageError
from jaxseq.common.text import printable
from jaxseq.export import formats

RECORD = "export.json"
"""The record of the written files, by which a second call knows that they are its own."""
CARD = "README.md"
OTHER = "other"
"""The hub's name for a licence that is not in its list, or not said."""


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
    licence: str | None = None
    """Licence for the card, by its name on the Hugging Face hub: apache-2.0; None keeps an earlier one, or takes other."""
    overwrite: bool = False
    """Write into a folder that holds other files, and replace those of the same names."""

    def __post_init__(self) -> None:
        # The card's metadata is YAML, in which other characters have a meaning.
        if self.licence is not None and not re.fullmatch(r"[A-Za-z0-9.+-]+", self.licence):
            raise UsageError("no name of a licence", where="--licence", got=self.licence, needed="such as apache-2.0")


class Exported(NamedTuple):
    """The export of one model in a folder, as its record has it.

    licence  of the card
    formats  names of the files of each format, all of which are still what was written
    """

    licence: str = OTHER
    formats: Mapping[str, list[str]] = MappingProxyType({})


def export(options: Options) -> Path:
    """Write the files; return their folder. Raises `UsageError` for a run that has no such form, before it writes."""
    names = formats.check_names(options.to)
    # Imported here, so that --help and a mistyped option answer before JAX is loaded.
    from jaxseq.checkpoint import records, run_seal
    from jaxseq.export import card
    from jaxseq.train.restore import restore

    folder = files.user_path(options.run)
    out = _folder(options, folder)
    run = restore(folder, options.epoch)
    formats.check_taken(names, run)

    arrays = records.state_sha256(folder / run_seal.CHECKPOINTS, run.epoch)
    model = {"run": folder.name, "epoch": run.epoch, "arrays": arrays}
    record = out / RECORD
    earlier = _earlier(record, model, options.overwrite)

    # All of them before the first is written: a format that cannot be had leaves nothing behind.
    contents: dict[str, bytes] = {}
    files_of_formats = dict(earlier.formats)
    for name in names:
        files_of_format = formats.named(name).files(run)
        contents |= files_of_format
        files_of_formats[name] = list(files_of_format)

    exported = Exported(options.licence or earlier.licence, files_of_formats)
    contents[CARD] = card.card(run, folder, exported.formats, exported.licence).encode()
    if not options.overwrite:
        written.check(record, contents)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.cannot_write(out, error) from error
    written.write(record, contents, **model, **exported._asdict())
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


def _earlier(record: Path, model: Mapping[str, object], overwrite: bool) -> Exported:
    """Return what an earlier export of this model has left in a folder.

    Raises `UsageError`, unless it is overwritten, for that of another model: the card would describe one of the two.
    """
    if not record.is_file():
        return Exported()
    try:
        earlier = sealed.read(record)
    except UsageError:
        if overwrite:
            return Exported()
        raise
    if any(earlier.get(name, value) != value for name, value in model.items()):
        if overwrite:
            return Exported()
        raise UsageError(
            "an export of another model is there",
            where=record,
            got=_description(earlier),
            needed=f"{_description(model)}; another --out, or --overwrite",
        )

    files_there = written.unchanged(record).keys()
    formats_there = {
        name: files_of_format
        for name, files_of_format in earlier.get("formats", {}).items()
        if name in formats.NAMES and files_there >= set(files_of_format)
    }
    return Exported(earlier.get("licence", OTHER), formats_there)


def _description(model: Mapping[str, object]) -> str:
    """Return a model in words: its run, epoch and the first digits of the hash of its arrays."""
    return f"{model.get('run')}, epoch {model.get('epoch')}, arrays {str(model.get('arrays'))[:8]}"
