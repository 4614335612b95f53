"""What a run has computed, for the comparison of two runs."""

from pathlib import Path
from typing import Any

from jaxseq.checkpoint import records, store
from jaxseq.train import run_folder


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows without what a clock says."""
    timed = {"seconds", "windows_per_second"}
    return [{key: row[key] for key in row if key not in timed} for row in run_folder.read_metrics(folder)]


def leaves(folder: Path) -> dict[str, bytes]:
    """The arrays of the newest epoch by path."""
    kept = folder / "checkpoints"
    newest = records.latest_epoch(kept)
    assert newest is not None
    return {path: array.tobytes() for path, array in store.load_leaves(kept, newest).items()}
