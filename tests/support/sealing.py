"""Seals made anew over files that a test has changed, as if the run had written them so."""

from pathlib import Path

from jaxseq.checkpoint import run_seal
from jaxseq.common import sealed


def reseal(run: Path) -> None:
    """Seal a run's judgement over its files as they are."""
    judged = sealed.read(run / run_seal.JUDGED)
    hashes = {name: sealed.digest_of_file(run / name) for name in judged["files"]}
    sealed.write(run / run_seal.JUDGED, {**judged, "files": hashes})
