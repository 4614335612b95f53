"""Whatever happens to a file of a finished folder: each command ends as with the sound one, or in a line that names it.

`python -m pytest -m slow -s -n 0 tests/checkpoint/test_damage.py` prints how many damages were tried, and how many were
harmless, named and lost; with `SLICE=0/5` in the environment, it tries every fifth damage from the first.
"""

import contextlib
import gc
import hashlib
import io
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, product
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from damages import Command, Commands, Damage, Outcome, Tally, damages, damages_of_run, examine, outcome, renew
from made_up import edition
from opened import opened
from quick_compilation import quick_compilation
from quickened import quicken, sales
from sealing import before_its_end
from untrained import untrained

from jaxseq import forecast
from jaxseq.checkpoint import __main__ as checkpoint
from jaxseq.checkpoint import records, run_seal, store
from jaxseq.checkpoint.leaves import data_of
from jaxseq.common.errors import UsageError
from jaxseq.common.written import RECORD, Outputs
from jaxseq.export import __main__ as export
from jaxseq.report import __main__ as report
from jaxseq.report import contents
from jaxseq.sample import __main__ as sample
from jaxseq.sweep import __main__ as sweep
from jaxseq.train import __main__ as train
from jaxseq.train import fit
from jaxseq.train.restore import restore

SMALL = ["--data.window", "5", "--model.hidden", "2", "--schedule", "constant", "--epochs", "4"]
AAPL = ["aapl", *SMALL, "--batch", "1024", "--lr", "0.05"]
TABLE = ["table", *SMALL, "--data.series", "store", "--batch", "64", "--lr", "1.0"]
ONE = ["waves", "--data.count", "60", "--data.window", "8", "--model.hidden", "2", "--epochs", "2", "--batch", "16"]
CHORDS = ["jsb-chords", "--model.hidden", "4", "--model.embedding", "4", "--model.voice-hidden", "4"]
CHORDS += ["--model.no-conditions", "--model.no-reprises"]
CHORDS += ["--stretch", "32", "--hop", "32", "--batch", "4", "--schedule", "constant", "--epochs", "4", "--lr", "0.3"]
SLICE = os.environ.get("SLICE", "0/1")
PIECE = ["--no-score", "--bpm", "400", "--count", "1", "--bars", "1"]


class Kind(NamedTuple):
    """A kind of finished folder: how it is made, its seed and that of its twin, and the commands that read or fill it.

    With these seeds, a run's best epoch is not one of its last two, so that three epochs lie there.

    share  returns the share of the flips that a file of a folder gets, by its name; 0 leaves it out
    """

    make: Callable[[Path, int], object]
    seeds: tuple[int, int]
    readers: dict[str, Command]
    writers: dict[str, Command]
    share: Callable[[Path, str], float] = lambda folder, name: 1.0


# Commands --------------------------------------------------------------------------------------------------------------


def remembered_read(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return `store._read` such that it reads a folder with the same content once; most of a command's time goes there."""
    results: dict[object, Any] = {}

    def once(path: str, arrays: Mapping[str, Any]) -> Any:
        content = content_of(Path(path))
        if content is None:
            return read(path, arrays)
        key = (content, tuple((name, str(getattr(blank, "dtype", blank))) for name, blank in arrays.items()))
        if key not in results:
            try:
                results[key] = read(path, arrays)
            except UsageError as error:
                # Raised anew each time, without the frames of an earlier call.
                results[key] = pickle.dumps(error)
        if isinstance(results[key], bytes):
            raise pickle.loads(results[key])
        return results[key]

    return once


def content_of(folder: Path) -> str | None:
    """Return a hash of all that lies in a folder, and of its place; None where that would take long."""
    digest = hashlib.sha256(str(folder).encode())
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            digest.update(f"{path} {path.is_symlink()} {path.is_file()}\n".encode())
            if path.is_file():
                if path.stat().st_size > 2**24:
                    return None
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        digest.update(repr(folders).encode())
    return digest.hexdigest()


def called(main: Callable[[list[str]], int], words: Sequence[str], result: Callable[[], object]) -> Outcome:
    return outcome(lambda: main(list(words)), result)


def verified(folder: Path) -> Outcome:
    return called(checkpoint.main, ["verify", str(folder)], lambda: None)


def forecast_(folder: Path) -> Outcome:
    path = folder.with_name("future.csv")
    path.unlink(missing_ok=True)
    return called(forecast.main, [str(folder), "--out", str(path), "--overwrite"], path.read_bytes)


def restored(folder: Path) -> Outcome:
    def read() -> int:
        found.append(restore(folder))
        return 0

    found: list = []
    return outcome(read, lambda: contents_of(found[0]))


def contents_of(run: object) -> list[object]:
    """Return what a restored run holds, as values that can be compared."""
    leaves = [np.asarray(data_of(leaf)) for leaf in jax.tree.leaves(run.state)]
    rest = [getattr(run, name, None) for name in ("experiment", "epoch", "scaling", "intervals")]
    return [[leaf.tobytes() for leaf in leaves], *map(repr, rest)]


def composed(folder: Path) -> Outcome:
    pieces = folder.with_name("pieces")
    shutil.rmtree(pieces, ignore_errors=True)
    return called(
        sample.main,
        [str(folder), *PIECE, "--out", str(pieces)],
        lambda: {
            path.name: path.read_bytes() for path in pieces.iterdir() if path.suffix in (".mid", ".musicxml", ".csv")
        },
    )


def resumed(folder: Path) -> Outcome:
    return called(train.main, ["--resume", str(folder)], lambda: run_result(folder))


def run_result(run: Path) -> dict[str, object]:
    """Return what a finished run holds, apart from the environment."""
    names = (run_seal.CONFIG, run_seal.METRICS, run_seal.JUDGED, *run_seal.OUTPUTS)
    result: dict[str, object] = {name: (run / name).read_bytes() for name in names if (run / name).is_file()}
    checkpoints = run / run_seal.CHECKPOINTS
    best_epoch = records.best_epoch(checkpoints)
    assert best_epoch is not None
    leaves = store.load_leaves(checkpoints, best_epoch)
    return {**result, "best epoch": best_epoch, "best": {path: leaf.tobytes() for path, leaf in leaves.items()}}


def folder_result(folder: Path) -> dict[str, object]:
    """Return what a folder of runs holds."""
    result: dict[str, object] = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.suffix in (".csv", ".md") and ".edited-" not in path.name
    }
    for run in sorted(path.parent for path in folder.glob(f"*/{run_seal.JUDGED}")):
        names = (run_seal.JUDGED, *run_seal.OUTPUTS)
        result[run.name] = {name: (run / name).read_bytes() for name in names if (run / name).is_file()}
    return result


# Kinds -----------------------------------------------------------------------------------------------------------------


def trained(words: Sequence[str], folder: Path, seed: int) -> None:
    assert train.main([*words, "--seed", str(seed), "--out", str(folder)]) == 0


def table(folder: Path, seed: int) -> None:
    trained([*TABLE, "--data.path", str(sales(folder.parent))], folder, seed)


def study_words(seed: int) -> list[str]:
    return [*ONE, "--seeds", "2", "--seed", str(10 * seed)]


def sweep_words(seed: int) -> list[str]:
    return [*ONE, "--lr", "0.01,0.02", "--seed", str(seed), "--workers", "1"]


def study(folder: Path, seed: int) -> None:
    assert train.main([*study_words(seed), "--out", str(folder)]) == 0


def swept(folder: Path, seed: int) -> None:
    assert sweep.main([*sweep_words(seed), "--out", str(folder)]) == 0


def study_again(folder: Path) -> Outcome:
    return called(train.main, [*study_words(0), "--out", str(folder)], lambda: folder_result(folder))


def sweep_again(folder: Path) -> Outcome:
    return called(sweep.main, [*sweep_words(0), "--out", str(folder)], lambda: folder_result(folder))


def chords(folder: Path, seed: int) -> None:
    archive = folder.parent / "pieces.tgz"
    if not archive.exists():
        edition(folder.parent)
    trained([*CHORDS, "--data.path", str(archive)], folder, seed)


def search_words(seed: int) -> list[str]:
    return [*ONE, "--lr", "0.01..0.1", "--optuna", "3", "--seed", str(seed), "--workers", "1"]


def searched(folder: Path, seed: int) -> None:
    pytest.importorskip("optuna")
    assert sweep.main([*search_words(seed), "--out", str(folder)]) == 0


def search_interrupted(folder: Path, seed: int) -> None:
    searched(folder, seed)
    before_its_end(folder)


def share_of_journal(folder: Path, name: str) -> float:
    """Try what a search leaves beside its runs."""
    return float(name in (run_seal.SEARCH_LOG, sweep.RECORD))


def search_again(folder: Path) -> Outcome:
    return called(sweep.main, [*search_words(0), "--out", str(folder)], lambda: folder_result(folder))


class Layer(nn.Module):
    """A module from outside."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.tanh(nn.Dense(3)(x)))


def fitted(folder: Path, seed: int, resume: bool = False) -> fit.Trained:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(40, 4)).astype(np.float32)
    y = x[:, :1] * x[:, 1:2]
    options: fit.Options = {"epochs": 4, "batch": 8, "seed": seed, "resume": resume}
    rate = optax.adam(0.3)
    return fit.train(
        Layer(), (x, y), valid=(x[:10] + 1, y[:10]), loss=optax.squared_error, optimiser=rate, out=folder, **options
    )


def fitted_again(folder: Path) -> Outcome:
    return _of_fit(lambda: fitted(folder, 0, resume=True))


def fit_restored(folder: Path) -> Outcome:
    return _of_fit(lambda: fit.restore(folder, Layer()))


def _of_fit(read: Callable[[], fit.Trained]) -> Outcome:
    def command() -> int:
        results.append(read())
        return 0

    results: list[fit.Trained] = []
    return outcome(command, lambda: content_of_fit(results[0]))


def content_of_fit(trained: fit.Trained) -> list[object]:
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((trained.params, trained.stats))]
    return [leaves, trained.epoch, [{**row, "seconds": 0} for row in trained.history]]


def exported(folder: Path) -> Outcome:
    out = folder.with_name("exported")
    shutil.rmtree(out, ignore_errors=True)
    words = [str(folder), "--to", "safetensors", "--out", str(out)]
    return called(export.main, words, lambda: contents_of_files(out))


def pieces(folder: Path, seed: int) -> None:
    run = folder.parent / "run"
    if not run.exists():
        untrained("jsb-chords", edition(folder.parent), run)
    assert sample.main([str(run), *PIECE, "--seed", str(seed), "--out", str(folder)]) == 0


def shown(folder: Path) -> Outcome:
    """Read pieces as a report does."""

    def read() -> int:
        parts.extend(contents._composed(Outputs(page, print), folder))
        return 0

    parts: list = []
    page = folder.with_name("page")
    shutil.rmtree(page, ignore_errors=True)
    page.mkdir()
    return outcome(read, lambda: (repr(parts), contents_of_files(page)))


def contents_of_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def reported(folder: Path, seed: int) -> None:
    """Make a report or, of another seed, one in which files have exchanged their names, as if they were another run's."""
    if seed == 0:
        edition(folder.parent)
        assert report.main(report_words(folder)) == 0
        return
    shutil.copytree(folder.with_name("sound"), folder)
    runs = folder / "runs"
    for parent, pattern in product((folder, runs), ("*.csv", "*.png", "*.md", "*.measured.json", "*.gradients.json")):
        exchange(sorted(parent.glob(pattern)))
    for experiment in ("aapl", "jsb"):
        exchange(sorted(path for path in runs.glob(f"{experiment}-*") if path.is_dir()))


def exchange(paths: Sequence[Path]) -> None:
    """Give each file or folder the name of the next one, and the last one that of the first."""
    for path in paths:
        path.rename(path.with_name(f"{path.name}.moved"))
    for path, following in zip(paths, [*paths[1:], *paths[:1]], strict=True):
        path.with_name(f"{path.name}.moved").rename(following)


def report_words(folder: Path) -> list[str]:
    archive = folder.parent / "pieces.tgz"
    return ["--budget", "quick", "--workers", "1", "--bpm", "400", "--out", str(folder), "--chorales", str(archive)]


def report_again(folder: Path) -> Outcome:
    def result() -> object:
        pages = {name: content for name, content in contents_of_files(folder).items() if ".edited-" not in name}
        pages.pop(RECORD)
        return pages, folder_result(folder / "runs")

    return called(report.main, report_words(folder), result)


def share_of_member(folder: Path, name: str) -> float:
    """Try one of the runs in a folder of runs: the others are of the same kind."""
    runs = sorted(path.parent.name for path in folder.glob(f"*/{run_seal.CONFIG}"))
    place = Path(name).parts[0]
    return float(not any(place.startswith(run) for run in runs[1:]))


def share_of_report(folder: Path, name: str) -> float:
    """Try a run, its checkpoints apart, what was measured of it, and the pieces; of the pages, the hash alone is read."""
    inner = Path(name).parts[1:]
    if not inner:
        return 0.1
    runs = [path.parent.name for path in sorted((folder / "runs").glob(f"*/{run_seal.CONFIG}"))]
    is_of_other_run = any(inner[0].startswith(run) for run in runs if run != runs[0])
    return float(not is_of_other_run and run_seal.CHECKPOINTS not in inner)


SERIES: dict[str, Command] = {"forecast": forecast_, "restore": restored, "export": exported}
KINDS = {
    "aapl": Kind(partial(trained, AAPL), (0, 3), SERIES, {"resume": resumed}),
    "table": Kind(table, (3, 10), SERIES, {"resume": resumed}),
    "chorales": Kind(chords, (11, 0), {"sample": composed, "restore": restored}, {"resume": resumed}),
    "study": Kind(
        lambda folder, seed: train.main([*study_words(seed), "--out", str(folder)]),
        (0, 1),
        {},
        {"study": study_again},
        share_of_member,
    ),
    "sweep": Kind(
        lambda folder, seed: sweep.main([*sweep_words(seed), "--out", str(folder)]),
        (0, 1),
        {},
        {"sweep": sweep_again},
        share_of_member,
    ),
    "search": Kind(searched, (0, 1), {}, {"search": search_again}, share_of_member),
    "interrupted": Kind(search_interrupted, (0, 1), {}, {"search": search_again}, share_of_journal),
    "own module": Kind(fitted, (0, 1), {"restore": fit_restored}, {"train": fitted_again}),
    "samples": Kind(pieces, (0, 1), {"report": shown}, {}),
    "report": Kind(reported, (0, 1), {}, {"report": report_again}, share_of_report),
}


def prove(
    name: str,
    work: Path,
    flips: int,
    chosen: Callable[[Damage], object] = lambda _: True,
    sample: int | None = None,
    progress: bool = False,
    seed: int = 0,
) -> Tally:
    """Make a kind of folder and its twin, damage the folder in every way, and call every command after each damage.

    flips     bits of each file, one at a time
    chosen    whether a damage is tried
    sample    number of damages that are tried, drawn from all; None tries every one
    progress  whether each damage is shown when it was tried
    seed      of the places of flipped bits, and of the sample
    """
    kind = KINDS[name]
    folder = work / "sound"
    twin = work / "twin"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for seed, path in zip(kind.seeds, (folder, twin), strict=True):
            if not path.exists():
                kind.make(path, seed)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    draw = random.Random(seed)
    tally = Tally(name)
    commands = sound_commands(kind, folder, work / "copy")

    everything = list(damages(folder, twin, lambda path: ceil(flips * kind.share(folder, path))))
    if (folder / run_seal.CHECKPOINTS).is_dir():
        everything = [*damages_of_run(folder, twin), *everything]
    everything = [damage for damage in everything if chosen(damage)]
    if sample is not None:
        everything = draw.sample(everything, sample)
    # Failing reads call the collector, which then spares what is there already.
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_read", remembered_read(store._read))
        for damage in everything:
            number = len(tally.faults)
            examine(tally, folder, work, damage, commands, draw)
            if progress:
                place = f"{tally.ends['damages']}/{len(everything)} {damage}"
                print(place, *tally.faults[number:], sep="\n    ", file=sys.stderr, flush=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}, "written through a link"
    return tally


def sound_commands(kind: Kind, folder: Path, copy: Path) -> Commands:
    """Call the commands of a kind on copies of a sound folder, and note their results and the files that they open."""
    sound: dict[str, object] = {}
    files: dict[str, set[str]] = {}
    for name, command in {**kind.readers, **kind.writers}.items():
        renew(folder, copy)
        with opened(copy) as names:
            end = command(copy)
        assert end.status == 0, f"{name} of a sound folder: {end.error}"
        sound[name] = end.result
        files[name] = names

    renew(folder, copy)
    checked = verified(copy)
    assert checked.status == 0, checked.out
    return Commands(verified, kind.readers, kind.writers, sound, files)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    quicken(monkeypatch)
    with quick_compilation():
        yield


@pytest.mark.usefixtures("quickly")
def test_a_few_damages_are_harmless_or_named(tmp_path: Path) -> None:
    tally = prove("table", tmp_path, flips=1, sample=6)
    assert not tally.faults, "\n".join(tally.faults)
    assert tally.ends["named"] and tally.ends["harmless"]


@pytest.mark.slow
@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", KINDS)
def test_each_damage_is_harmless_or_named(kind: str, tmp_path: Path) -> None:
    part, parts = map(int, SLICE.split("/"))
    numbers = count()
    tally = prove(kind, tmp_path, 20, lambda _: next(numbers) % parts == part, progress=True, seed=part)
    print(f"{SLICE} of {tally}")
    assert not tally.faults, "\n".join(tally.faults)
