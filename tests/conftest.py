"""Tests run on four CPU devices unless marked `gpu`, with strict dtype promotion; warnings are errors (pyproject.toml)."""

import contextlib
import gc
import importlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "agg")
# Each worker has a core. Numpy's small products gain nothing from a second thread, which waits for work by spinning.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Compiled programs are kept between runs and shared with child processes. An entry's key is the program itself, so a
# changed cell compiles anew. Tests that count compilations leave the cache out (`JAX_ENABLE_COMPILATION_CACHE=0`).
CACHE_HOME = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
JAXLIB = importlib.metadata.version("jaxlib")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE_HOME / "jaxseq/tests" / f"{JAXLIB}-{platform.machine()}"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import hypothesis
import jax
import jaxtyping
import pytest
from quick_compilation import quick_compilation

pytest_plugins = ["pictures", "trained_runs"]

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("ci", max_examples=15, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=300, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    """Give the tests of `-m gpu` the devices that JAX finds; their processes share the memory of one GPU."""
    if config.option.markexpr == "gpu":
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        jax.config.update("jax_platforms", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Limit the processes of `-m gpu`, each of which compiles on its own cores and has a context on the GPU."""
    if config.option.markexpr == "gpu":
        return min(8, os.cpu_count() or 1)
    return None


MOST_MAPPINGS = 40_000
"""Mappings of memory at which a worker gives its compiled programs back: Linux ends a process that needs more than
65,530 (`vm.max_map_count`), and each program takes about six. To give them back takes ten seconds."""


def mappings() -> int:
    """Number of mappings of this process's memory; 0 where the system does not say."""
    listing = Path("/proc/self/maps")
    if not listing.is_file():
        return 0
    return listing.read_bytes().count(b"\n")


def pytest_runtest_teardown(item, nextitem):
    """Between two files, spare the garbage collector what lives, and give compiled programs back if there are too many.

    A failing restore collects garbage, which takes a second for every few million objects of earlier tests.
    """
    if nextitem is not None and nextitem.path == item.path:
        return
    if mappings() > MOST_MAPPINGS:
        gc.unfreeze()
        jax.clear_caches()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session):
    """In a whole run, let the second worker import the tests from the last file on.

    In a fresh checkout all modules have to be compiled, the tests with their assertions rewritten. From both ends on,
    each worker compiles half of them, and reads the byte code of the others.
    """
    config = session.config
    is_second = getattr(config, "workerinput", {}).get("workerid") == "gw1"
    if not is_second or config.args != config.getini("testpaths"):
        return
    for path in sorted(Path(__file__).parent.rglob("test_*.py"), reverse=True):
        sys.path.insert(0, str(path.parent))
        # The collection imports again what a test skips, or what fails.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(path.stem)
        sys.path.remove(str(path.parent))


@pytest.fixture
def double():
    """float64 for the test: `pytestmark = pytest.mark.usefixtures("double")` gives it to a whole file."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compiled_quickly():
    """Programs of the test are compiled as `quick_compilation` says; it says, too, for which tests that is right."""
    with quick_compilation():
        yield


@pytest.fixture
def unannotated():
    """Annotations are not checked, as outside of tests: the code's own checks have to refuse."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_collection_finish():
    """Spare the garbage collector the modules, and call it seldom: tracing makes many objects that live."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
