"""Seals made anew over files that a test has changed, as if the run had written them so."""

from pathlib import Path

from jaxseq.checkpoint import run_seal
from jaxseq.common import sealed


def reseal(run: Path) -> None:
    """Seal a run's judgement over its files as they are."""
    judged = sealed.read(run / run_seal.JUDGED)
    hashes = {name: sealed.digest_of_file(run / name) for name in judged["files"]}
    sealed.write(run / run_seal.JUDGED, {**judged, "files": hashes})


def before_its_end(search: Path) -> Path:
    """Make a finished search one that was killed before its last trial was counted, and return its journal."""
    for name in ("sweep.csv", "sweep.md", "sweep.png", "written.json"):
        (search / name).unlink()
    journal = search / run_seal.SEARCH_LOG
    content = journal.read_bytes()
    journal.unlink()
    words = sealed.read(search / "sweep.json")["words"]
    # As it is written before the first trial.
    sealed.write(search / "sweep.json", {"words": words, **run_seal.journal_record(journal, words[1:])})
    journal.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    return journal
