"""The device under test: a GPU, or whatever `JAXSEQ_GPU_TESTS_ON` names, say `cpu` to try the tests themselves."""

import os

import jax
import pytest

PLATFORM = os.environ.get("JAXSEQ_GPU_TESTS_ON", "gpu")


@pytest.fixture(scope="session")
def device():
    """The first device of the platform; the test is skipped where JAX finds none."""
    try:
        return jax.devices(PLATFORM)[0]
    except RuntimeError as error:
        pytest.skip(f"JAX finds no {PLATFORM}: {error}")


@pytest.fixture(scope="session")
def cpu():
    return jax.devices("cpu")[0]
