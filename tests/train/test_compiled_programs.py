"""Compiled programs are kept for the next process, where the user has not chosen otherwise."""

import os
import subprocess
import sys

import jax
import pytest

from jaxseq.train import compiled_programs


@pytest.fixture
def undecided(monkeypatch, tmp_path):
    """A user who has set nothing; this process's own settings are as before afterwards."""
    before = {name: jax.config.values[name.lower()] for name in compiled_programs.SETTINGS}
    for name in compiled_programs.SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.delenv("JAXSEQ_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "jaxseq" / "programs"
    for name, value in before.items():
        jax.config.update(name.lower(), value)


def test_programs_are_kept_below_the_cache_folder(undecided):
    compiled_programs.keep()
    (folder,) = undecided.iterdir()
    assert folder.name.startswith("jaxlib-")
    assert jax.config.values["jax_compilation_cache_dir"] == str(folder)
    assert jax.config.values["jax_compilation_cache_max_size"] == 2**30
    # Workers of a study are children.
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)


def test_a_users_own_folder_wins(undecided, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    before = jax.config.values["jax_compilation_cache_dir"]
    compiled_programs.keep()
    assert jax.config.values["jax_compilation_cache_dir"] == before
    assert not undecided.exists()


def test_another_processor_has_another_folder(undecided, monkeypatch):
    monkeypatch.setattr(compiled_programs, "_processor", lambda: "x86 sse")
    first = compiled_programs._writable_folder()
    monkeypatch.setattr(compiled_programs, "_processor", lambda: "x86 sse avx512")
    assert compiled_programs._writable_folder() != first


def test_without_a_folder_nothing_is_kept(undecided, monkeypatch, tmp_path):
    (tmp_path / "jaxseq").write_text("no folder")
    compiled_programs.keep()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


@pytest.mark.slow
def test_a_second_training_compiles_nothing_and_computes_the_same(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in compiled_programs.SETTINGS}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    words = ["waves", "--data.count", "60", "--epochs", "2", "--model.hidden", "3", "--data.window", "6"]

    def files():
        return {path.name: path.stat().st_size for path in (tmp_path / "cache").rglob("*-cache")}

    def train(name, *more):
        subprocess.run(
            [sys.executable, "-m", "jaxseq.train", *words, "--out", name, *more],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
        )
        return (tmp_path / name / "predictions.csv").read_bytes()

    without = train("without", "--no-compile-cache")
    assert not files()
    first = train("first")
    kept = files()
    assert len(kept) > 3
    assert train("second") == first == without
    assert files() == kept
