"""Tables of a search: its best points by validation, and the test scores of the one that was chosen."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import pandas as pd

from jaxseq.checkpoint import records, run_seal
from jaxseq.sweep.grid import split
from jaxseq.sweep.search import Found, Result
from jaxseq.sweep.space import RANGE, Space

PICTURE = "sweep.png"
SHOWN = 10
"""Points in the table of the best ones."""


def table(space: Space, found: Found) -> pd.DataFrame:
    """Return a row for each trial: its state, its point, the validation metric of its best epoch, and its epochs."""
    rows = []
    for result in found.results:
        row = {"trial": result.number, "state": result.state, **result.values}
        # By the sealed records: the last epoch of a run that has ended is always saved.
        epochs = records.latest_epoch(result.run.folder / run_seal.CHECKPOINTS) or 0
        rows.append({**row, space.metric: result.value, "epochs": epochs})
    return pd.DataFrame(rows)


def ranked(found: Found) -> list[Result]:
    """Return the completed trials, the best first; of equal ones the earliest."""
    complete = [result for result in found.results if result.state == "complete"]
    return sorted(complete, key=lambda result: (result.value, result.number))


def markdown(space: Space, found: Found, words: Sequence[str]) -> str:
    """Return the summary in Markdown; `words` are those of the search."""
    fields = list(space.fields)
    best_results = ranked(found)
    best = best_results[0]
    counts = [sum(result.state == state for result in found.results) for state in ("complete", "pruned", "failed")]
    header = ["trial", *fields, space.metric]
    rows = [
        [str(result.number), *(result.values[field] for field in fields), f"{result.value:.6g}"]
        for result in best_results[:SHOWN]
    ]
    test_scores = {name: value for name, value in run_seal.judged_row(best.run.folder).items() if name != space.metric}
    return f"""# {space.base.name}: {len(found.results)} trials of a search

{counts[0]} complete, {counts[1]} pruned, {counts[2]} failed. The best points by {space.metric}, the smallest first:

{_table(header, rows)}

The best point, trial {best.number}, was chosen on the validation part alone, as the smallest of {counts[0]} values: that
one flatters it. The test part played no part in the choice, and is shown for this point alone:

{_table(list(test_scores), [[f"{value:.6g}" for value in test_scores.values()]])}

    {command(words, best)}

trains it again, and `--seeds 5` says how much of it is luck.

{_importance(found)}
![Value by trial, importance and slices]({PICTURE})

All trials: `sweep.csv`.
"""


def command(words: Sequence[str], result: Result) -> str:
    """Return the command that trains a point."""
    point = []
    flag = ""
    for word in words:
        text = word
        prefix = ""
        if word.startswith("--"):
            flag, equals, text = word.partition("=")
            prefix = flag + equals
        # As the space was read from the words.
        is_varied = RANGE.fullmatch(text) or len(split([flag, text])[-1].texts) > 1
        point.append(prefix + result.values[flag.removeprefix("--")] if text and is_varied else word)
    return f"python -m jaxseq.train {shlex.join(point)}"


def _importance(found: Found) -> str:
    if not found.importances:
        return "Too few trials to tell which field matters.\n"
    rows = [[field, f"{share:.0%}"] for field, share in found.importances.items()]
    shares = _table(["field", "share"], rows)
    return f"Share of each field in what tells the best trials from the others (PED-ANOVA):\n\n{shares}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---:|' * len(header)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)
