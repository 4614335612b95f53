"""Every test runs on four CPU devices, with strict dtype promotion; warnings are errors (pyproject.toml)."""

import os

os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("ci", max_examples=15, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=300, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture
def double():
    """float64 for the test: `pytestmark = pytest.mark.usefixtures("double")` gives it to a whole file."""
    with jax.enable_x64(True):
        yield
