"""The files in a run's folder, and the seals by which its readers know that it is what the run wrote.

`config.json` and `environment.json` carry their own sha256. Each epoch's record names the run and holds the sha256 of the
log up to this epoch. `judged.json` is written last: it names the epoch that was judged, and has the sha256 of every file
that the judgement wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxseq.checkpoint import records
from jaxseq.common import files, sealed, sealed_lines
from jaxseq.common.errors import UsageError
from jaxseq.common.sealed import RUN_ID, DamagedError

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
JUDGED = "judged.json"
REPORT = "report.md"
PAGE = "report.html"
PREDICTIONS = "predictions.csv"
LARGE_PREDICTIONS = "predictions.parquet"
"""The same in a format for many rows; there is one of the two."""
SCORES = "scores.csv"
CLASSICAL = "classical.csv"
INTERVALS = "intervals.json"
LOSS_PLOT = "loss.png"
FORECAST_PLOT = "forecast.png"
ERRORS_PLOT = "errors.png"

IMPORTANCE = "importance.csv"
RESIDUALS = "residuals.csv"
IMPORTANCE_PLOT = "importance.png"
WORST_PLOT = "worst.png"
EXPLANATION = (IMPORTANCE, RESIDUALS, IMPORTANCE_PLOT, WORST_PLOT)
"""Files of a judgement that is explained."""

REFIT = "refit"
"""Folder in that of a run, with the same recipe trained on all rows: config, log and checkpoints of a run."""

AUTO = "auto.json"
"""File in the folder of a run or a study whose preparation was chosen: what was tried, sealed."""
AUTO_TABLE = "auto.csv"
"""The same as a table."""

SEARCH_LOG = "optuna.log"
"""File in the folder of a search: its journal, whose lines are sealed as those of `sealed_lines`."""

MOST_METRICS = 256 * 2**20
"""Maximum size in bytes of a log or journal that is read: a million epochs."""

MEMBERS = "members"
"""Key, in the recipe of a study or a sweep, of the hash of each run's recipe, by the name of its folder."""
FIELDS = "member_fields"
"""Key of the names of the fields that are hashed."""
JOURNAL = "journal"
"""Key, in the recipe of a search, of its journal, which may have grown since: name, size, sha256, seal before its start."""

Recipe = Mapping[str, Any]
"""The sealed record of a study, a grid or a search, as JSON has it."""

OUTPUTS = (
    INTERVALS,
    PREDICTIONS,
    LARGE_PREDICTIONS,
    SCORES,
    CLASSICAL,
    LOSS_PLOT,
    FORECAST_PLOT,
    ERRORS_PLOT,
    *EXPLANATION,
    REPORT,
    PAGE,
)
"""Files that a judgement writes; those of a domain are some of them."""


class Judged(NamedTuple):
    """A finished judgement.

    run_id        of the run; None for one that began before format 3
    epoch         the best epoch, which was judged
    epochs        number of epochs that were trained
    state_sha256  of the arrays that were judged
    log_sha256    of the log's rows by then
    row           the run in the tables of studies and sweeps: numbers by column
    files         sha256 of each file by name
    """

    run_id: str | None
    epoch: int
    epochs: int
    state_sha256: str
    log_sha256: str
    row: Mapping[str, int | float]
    files: Mapping[str, str]


# Judgements ------------------------------------------------------------------------------------------------------------


def write_judged(
    run: Path,
    config: Mapping[str, Any],
    *,
    epoch: int,
    epochs: int,
    row: Mapping[str, int | float],
) -> None:
    """Seal the files of a judgement, which are all written. Raises `UsageError` if that cannot be written."""
    hashes = {name: sealed.digest_of_file(run / name) for name in OUTPUTS if (run / name).is_file()}
    judged = Judged(
        run_id=config.get(RUN_ID),
        epoch=epoch,
        epochs=epochs,
        state_sha256=records.state_sha256(run / CHECKPOINTS, epoch),
        log_sha256=log_sha256(run / METRICS, epochs),
        row=row,
        files=hashes,
    )
    sealed.write(run / JUDGED, judged._asdict())


def read_judged(run: Path) -> Judged | None:
    """Return the judgement of a run; None if it has not been judged, or if training has gone on since.

    Raises `DamagedError` for a broken seal, for that of another run, and for files of a judgement without a seal. Runs of
    formats before 3 have none.
    """
    path = run / JUDGED
    if path.is_symlink() and not os.path.exists(path):
        raise _to_be_judged(path, "it is a link to nothing")
    if not path.exists():
        # Without the seal, nothing tells whether these files are of the epochs that lie beside them.
        left = [name for name in OUTPUTS if (run / name).exists()]
        if left and has_seals(run):
            raise _to_be_judged(path, f"it is missing beside {left[-1]}")
        return None
    config = sealed.read(run / CONFIG)
    try:
        judged = _parsed(sealed.read(path), path)
        # Somebody may have copied the file of another run here.
        if judged.run_id != config.get(RUN_ID):
            raise DamagedError(str(path), [f"it is of another run than {CONFIG}"])
        return judged
    except DamagedError as error:
        raise _to_be_judged(path, error.reasons[0]) from None
    except UsageError as error:
        raise _to_be_judged(path, error.rule) from None


def _parsed(record: Mapping[str, Any], path: Path) -> Judged:
    """Return a record as a judgement. Raises `DamagedError` for other fields, and for names that are no output's."""
    other_fields = DamagedError(str(path), ["it has other fields than a judgement"])
    try:
        judged = Judged(**record)
        # A name such as ../../x would be read outside of the run.
        names_outputs = set(judged.files) <= set(OUTPUTS)
    except TypeError:
        raise other_fields from None
    is_counted = type(judged.epoch) is int and type(judged.epochs) is int
    if not (is_counted and names_outputs and isinstance(judged.row, Mapping)):
        raise other_fields
    return judged


def check_output(run: Path, judged: Judged, name: str) -> None:
    """Raise `DamagedError` unless a file of a judgement is as it was written."""
    reason = _change(run, judged, name)
    # A file that is made again costs seconds; one that is believed by mistake costs more.
    if reason is not None:
        raise _to_be_judged(run / name, reason)


def _to_be_judged(path: Path, reason: str) -> DamagedError:
    again = f"python -m jaxseq.train --resume {path.parent} judges the run again"
    return DamagedError(f"{path}", [f"{reason}; {again}"])


def _change(run: Path, judged: Judged, name: str) -> str | None:
    """Say how a file differs from the one that the judgement wrote; None if it does not."""
    if name not in judged.files:
        return f"{JUDGED} does not name it"
    return sealed.change_of_file(run / name, judged.files[name])


def has_judgement(run: Path) -> bool:
    """Return whether a run has been judged: whether any file of a judgement is there, sound or not."""
    return any(os.path.lexists(run / name) for name in (JUDGED, *OUTPUTS))


def judged_row(run: Path) -> Mapping[str, int | float]:
    """Return a finished run as a row of a table. Raises `DamagedError` if it is not finished, as `read_judged` does."""
    judged = read_judged(run)
    if judged is None:
        raise DamagedError(f"{run}", ["it has not been judged"])
    return judged.row


def judged_damage(run: Path) -> list[str]:
    """Return a line for each file of a run's judgement that is not as it was written, and for another state.

    Empty if the run is finished; for one that has not been judged, or has no sound config, the line says so.
    """
    try:
        judged = read_judged(run)
        if judged is None:
            return [f"{run}: it has not been judged"]
        state = records.state_sha256(run / CHECKPOINTS, judged.epoch)
    except UsageError as error:
        return [str(error)]

    # All of them: whoever repairs a folder wants to know every file.
    changes = {name: _change(run, judged, name) for name in judged.files}
    reasons = [f"{run / name}: {change}" for name, change in changes.items() if change is not None]
    reasons += _environment_damage(run)
    if state != judged.state_sha256:
        reasons.append(f"{run / JUDGED}: it is of another state than epoch {judged.epoch}")
    return reasons


def _environment_damage(run: Path) -> list[str]:
    try:
        sealed.read(run / ENVIRONMENT)
    except UsageError as error:
        return [str(error)]
    return []


def break_seal(run: Path) -> None:
    """Remove the seal of a judgement, whose files are about to be written again. Raises `UsageError` if it cannot be."""
    files.remove(run / JUDGED)


def set_judgement_aside(run: Path) -> None:
    """Move a judgement's files into a folder such as `judged-20`, named after the epochs that had been trained by then.

    Done before training goes on: beside later checkpoints they would pass for files about them. Raises `UsageError` if
    that cannot be written.
    """
    present = [name for name in (JUDGED, *OUTPUTS) if (run / name).is_symlink() or (run / name).exists()]
    if not present:
        return
    # A process that was killed here has moved the seal, and perhaps some of the files.
    begun = next((folder for folder in sorted(run.glob("judged-*")) if _seals(folder, run, present)), None)
    aside = begun or run / f"judged-{_judged_epochs(run)}"
    try:
        # What a link points to is not of this run.
        if aside.is_symlink():
            aside.unlink()
        aside.mkdir(exist_ok=True)
        # The seal goes first: without it nothing that is left counts as a judgement.
        for name in present:
            os.replace(run / name, aside / name)
    except OSError as error:
        raise files.cannot_write(aside, error) from error


def _seals(folder: Path, run: Path, names: Iterable[str]) -> bool:
    """Return whether the seal in a folder is that of the named files of a run."""
    try:
        judged = _parsed(sealed.read(folder / JUDGED), folder / JUDGED)
    except UsageError:
        return False
    return all(_change(run, judged, name) is None for name in names)


def _judged_epochs(run: Path) -> str:
    try:
        judged = read_judged(run)
    except UsageError:
        return "unsealed"
    return "unsealed" if judged is None else str(judged.epochs)


def damage_of_choice(folder: Path) -> Iterator[str]:
    """Yield a line if the record of how a preparation was chosen is not as it was written; none without one."""
    if not os.path.lexists(folder / AUTO):
        return
    try:
        sealed.read(folder / AUTO)
    except UsageError as error:
        yield str(error)


# Members of studies and sweeps -------------------------------------------------------------------------------------------


def members_record(configs: Mapping[str, Mapping[str, object]], may_change: Iterable[str] = ()) -> dict[str, object]:
    """Return the part of a recipe of runs that names its members: the hash of each recipe, by the run's folder.

    Fields in `may_change` are left out, and the path of the data, which may be moved.
    """
    names = {name for config in configs.values() for name in config}
    fields = sorted(names - set(may_change))
    return {FIELDS: fields, MEMBERS: {name: _recipe_sha256(config, fields) for name, config in configs.items()}}


def check_members(runs: Iterable[Path], recipe: Recipe, file: Path) -> None:
    """Raise `DamagedError` unless runs are the members that a recipe of runs has in their folders; `file` holds it.

    A recipe of a version that did not name them says nothing, and a run of another name beside them is no member. Raises
    `UsageError` for a config that cannot be read.
    """
    members = recipe.get(MEMBERS)
    present = [run for run in runs if (run / CONFIG).is_file()]
    if not members or not present:
        return
    if not any(run.name in members for run in present):
        raise DamagedError(f"{file}", [f"it is of other runs than {present[0].name}"])
    for run in present:
        if run.name not in members:
            continue
        if members[run.name] != _recipe_sha256(sealed.read(run / CONFIG), recipe[FIELDS]):
            raise DamagedError(f"{file}", [f"it has another recipe for {run.name}"])


def journal_start(words: Sequence[str]) -> str:
    """Return the seal before the first line of the journal of a search with these words, so that it is of no other one."""
    return sealed.digest({"words": list(words)})


def journal_record(journal: Path, words: Sequence[str]) -> dict[str, list[str | int]]:
    """Return the part of a recipe of runs that seals a journal, which may not exist yet.

    Raises `UsageError` if it cannot be read.
    """
    content = b""
    if os.path.lexists(journal):
        content = log_content(journal)
    entry = [journal.name, len(content), hashlib.sha256(content).hexdigest()]
    # A journal that an earlier version began has no seals.
    if not sealed_lines.whole(content) or sealed_lines.last_seal(content, journal) is not None:
        entry.append(journal_start(words))
    return {JOURNAL: entry}


def check_journal(recipe: Recipe, file: Path) -> None:
    """Raise `UsageError` unless a journal begins as when the recipe in `file` was written, and each line is as written.

    Recipes of a grid, and of earlier versions, have no journal; a search that was just begun may have none yet. Raises
    `UsageError` for one that cannot be read.
    """
    if JOURNAL not in recipe:
        return
    name, size, sha256, *start = recipe[JOURNAL]
    # The recipe may come from elsewhere: no file outside of its folder is read.
    journal = file.with_name(Path(name).name)
    if size == 0 and not os.path.lexists(journal):
        return
    content = log_content(journal)
    if hashlib.sha256(content[:size]).hexdigest() != sha256:
        raise DamagedError(f"{journal}", [f"it was changed since {file.name} was written"])
    try:
        # Recipes without it are of journals without seals.
        sealed_lines.check(content, journal, *(start or [""]))
    except DamagedError as error:
        raise DamagedError(f"{error.where}", [f"{error.reasons[0]}, or {file.name} is of another search"]) from None
    # Sound lines have all of them a seal, or none of them.
    if start and sealed_lines.whole(content) and sealed_lines.last_seal(content, journal) is None:
        raise DamagedError(f"{journal}", ["its lines have no seals, with which it was written"])


def _recipe_sha256(config: Mapping[str, object], fields: Iterable[str]) -> str:
    return sealed.digest({name: unmoved(config.get(name)) for name in fields})


def unmoved(value: Any) -> Any:
    """Return a field of a config without the path of its data, which may lie elsewhere by now."""
    if isinstance(value, Mapping):
        return {name: field for name, field in value.items() if name != "path"}
    return value


# Configuration and log -------------------------------------------------------------------------------------------------


def has_seals(run: Path) -> bool:
    """Return whether a run is of a format that seals its files."""
    return sealed.is_sealed(files.read_json(run / CONFIG))


def log_sha256(path: Path, epochs: int) -> str:
    """Return the sha256 of the first lines of a log, one for each epoch. Raises `UsageError` if it cannot be read."""
    lines = log_content(path).splitlines(keepends=True)
    return hashlib.sha256(b"".join(lines[:epochs])).hexdigest()


def log_content(path: Path) -> bytes:
    """Return the bytes of a log or journal. Raises `UsageError` if it cannot be read or is larger than `MOST_METRICS`."""
    try:
        # The file is read as a whole, so a damaged one of any size could fill the memory.
        files.check_size(path, MOST_METRICS)
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", where=path) from error
    except ValueError as error:
        raise UsageError(f"cannot be read: {error}", where=path) from error


def check_log(run: Path, epoch: int) -> None:
    """Raise `DamagedError` unless the rows of a run's log up to an epoch are those that were there when it was saved."""
    path = run / METRICS
    saved = records.log_sha256(run / CHECKPOINTS, epoch)
    # Records before format 3 have none.
    if saved is not None and log_sha256(path, epoch) != saved:
        raise DamagedError(f"{path}", [f"its rows up to epoch {epoch} were changed since that epoch was saved"])
    _check_later_rows(path, epoch)


def check_judged_log(run: Path) -> None:
    """Raise `DamagedError` unless the log of a finished run has the rows that it was judged with."""
    path = run / METRICS
    judged = read_judged(run)
    if judged is not None and log_sha256(path, judged.epochs) != judged.log_sha256:
        raise DamagedError(f"{path}", ["it was changed since the run was judged"])
    if judged is not None:
        _check_later_rows(path, judged.epochs)


def _check_later_rows(path: Path, epochs: int) -> None:
    """Raise `DamagedError` if a row behind those of the first epochs repeats one of them."""
    for line in log_content(path).splitlines()[epochs:]:
        try:
            row = json.loads(line)
        # A line that a kill cut off; any other one is refused by whoever reads the rows.
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and type(row.get("epoch")) is int and row["epoch"] <= epochs:
            raise DamagedError(f"{path}", [f"it has a second row of epoch {row['epoch']}"])


def damage(run: Path) -> Iterator[str]:
    """Yield a line for each file of a run's folder that is not as it was written; the checkpoints' arrays apart."""
    checkpoints = run / CHECKPOINTS
    config: dict[str, Any] = {}
    seals = False
    try:
        config = sealed.read(run / CONFIG)
        seals = has_seals(run)
    except UsageError as error:
        yield str(error)

    yield from damage_of_choice(run)

    # Nothing is saved through a link, so that a run with one cannot resume.
    try:
        files.check_links(checkpoints)
    except UsageError as error:
        yield str(error)

    for epoch in records.epochs(checkpoints):
        try:
            if config:
                records.check_run(checkpoints, epoch, config)
            check_log(run, epoch)
        except UsageError as error:
            yield str(error)

    # A run that is stopped before its end has no judgement, which is no damage.
    if seals and has_judgement(run):
        yield from judged_damage(run)
    elif seals:
        yield from _environment_damage(run)
