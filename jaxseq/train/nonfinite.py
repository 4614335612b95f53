"""Steps whose loss or gradient is not finite: when training has to stop, and how the error explains it."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool

from jaxseq.checkpoint import run_seal, store
from jaxseq.common.arrays import Tree
from jaxseq.common.errors import UsageError
from jaxseq.train import epoch, processes, run_folder
from jaxseq.train.epoch import Epoch, Setup, TrainState
from jaxseq.train.job import Job, abstract_state, initial_state, with_numbers

MOST_IN_A_ROW = 10
"""Consecutive steps that may be skipped. Skipped steps leave the parameters unchanged, so more of them cannot help."""


def nonfinite_steps(finished: Epoch) -> Bool[np.ndarray, "steps"]:
    """Return which steps of an epoch had a loss or gradient that is not finite."""
    loss = np.asarray(finished.steps.loss)
    norm = np.asarray(finished.steps.gradient_norm)
    return ~(np.isfinite(loss) & np.isfinite(norm))


def failing_step(finished: Epoch, skip: bool) -> int | None:
    """Return the step, from 0, at which training has to stop; None if it may continue.

    Without `skip`, it is the first non-finite step. With `skip`, it is the step after `MOST_IN_A_ROW` consecutive ones,
    or the last step of an epoch that has no finite step. It is also the last step if only the validation is not finite.
    """
    is_nonfinite = nonfinite_steps(finished)
    is_failing = is_nonfinite
    if skip:
        # The number of non-finite steps among each step and the MOST_IN_A_ROW steps before it.
        window = np.ones(MOST_IN_A_ROW + 1, int)
        recent = np.convolve(is_nonfinite, window)[: len(is_nonfinite)]
        is_failing = recent > MOST_IN_A_ROW
    if is_failing.any():
        return int(np.argmax(is_failing))

    valid_is_finite = all(math.isfinite(value) for value in finished.valid.values())
    if valid_is_finite and not is_nonfinite.all():
        return None
    return len(is_nonfinite) - 1


def failure(
    job: Job,
    setup: Setup,
    folder: Path,
    finished: Epoch,
    step: int,
) -> str:
    """Describe in one line the step at which training stopped."""
    loss = np.asarray(finished.steps.loss)
    norm = np.asarray(finished.steps.gradient_norm)
    validation = finished.valid[setup.objective.select]
    leaf = failing_leaf(job, setup, folder, finished, step)
    return (
        f"{run_folder.NOT_FINITE} in epoch {finished.number}, step {step + 1} of {len(loss)} (loss {loss[step]:g}, "
        f"gradient norm {norm[step]:g}{leaf}, validation {validation:g}): use a smaller --lr or set --clip"
    )


def failing_leaf(
    job: Job,
    setup: Setup,
    folder: Path,
    finished: Epoch,
    step: int,
) -> str:
    """Name the parameter whose gradient failed in a step, after a comma; "" if that step itself was finite.

    Trains the epoch again up to that step, from the state before it.
    """
    # The batches of a source may be gone.
    if job.source is not None or not nonfinite_steps(finished)[step]:
        return ""

    state = None
    # The error is reported without a parameter if the checkpoint before it cannot be read.
    with suppress(UsageError):
        state = _state_before(job, folder, finished.number)
    # All processes have to take the same branch: the next call sums over their devices.
    if processes.largest(state is None) or state is None:
        return ""

    norms = epoch.gradient_norms(setup, state, job.data.train, job.experiment.batch, step)
    return _leaf_words(norms)


def _leaf_words(norms: Tree) -> str:
    """Name the leaf of a gradient that is to blame, by the norm of each leaf."""
    norm_by_path = {}
    for path, norm in jax.tree_util.tree_leaves_with_path(norms):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        norm_by_path[name] = float(norm)

    nonfinite_paths = [path for path, norm in norm_by_path.items() if not math.isfinite(norm)]
    if nonfinite_paths:
        others = len(nonfinite_paths) - 1
        more = f" and {others} more of {len(norm_by_path)} leaves" if others else ""
        return f", not finite in {nonfinite_paths[0]}{more}"

    # Every leaf is finite, but the sum of their squares overflows.
    largest = max(norm_by_path, key=lambda path: norm_by_path[path])
    return f", the largest that of {largest} with {norm_by_path[largest]:g}"


def _state_before(job: Job, folder: Path, number: int) -> TrainState:
    if number == 1:
        return initial_state(job)

    checkpoints = folder / run_seal.CHECKPOINTS
    _, state = store.restore(checkpoints, abstract_state(job), number - 1)
    return with_numbers(job, state)
