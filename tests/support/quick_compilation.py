"""Programs compiled without most of XLA's optimisations."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import jax
import pytest
from jax._src import compiler

OLDER_EMITTER: dict[str, Any] = {}
"""XLA's options for its older emitter of loops, which jaxlib 0.12 has no longer: a small program compiles soonest by it,
and as one module of LLVM."""
if version("jaxlib").startswith("0.10."):
    OLDER_EMITTER |= {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}

CHILD_ENVIRONMENT = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": " ".join(
        [os.environ.get("XLA_FLAGS", ""), *(f"--{name}={value}" for name, value in OLDER_EMITTER.items())]
    ).strip(),
}
"""Environment in which a child process compiles as `quick_compilation` does."""

_QUICK = jax.make_user_context("no")
"""Part of the key of every program that JAX keeps in memory: none is taken from inside the context outside, or back."""
_compile_options = compiler.get_compile_options


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Compile without most of XLA's optimisations, which take longer than all that a small test computes.

    For tests of values against an oracle or against one another, and of what is written and said. Timings, and claims
    about the optimised program, such as that two processes compute the same bits, stay outside.
    """
    # By this function alone: JAX has no setting for an option of all programs, and XLA reads XLA_FLAGS only once.
    with _compilation(is_quick=True, options_of=_quick_options):
        yield


def compile_children_quickly(patch: pytest.MonkeyPatch) -> None:
    """Give child processes that start from now on an environment in which they compile likewise."""
    for name, value in CHILD_ENVIRONMENT.items():
        patch.setenv(name, value)


@contextmanager
def full_compilation() -> Iterator[None]:
    """Compile as users do, also within `quick_compilation`."""
    with _compilation(is_quick=False, options_of=_compile_options):
        yield


@contextmanager
def _compilation(is_quick: bool, options_of: Callable[..., Any]) -> Iterator[None]:
    before = jax.config.values["jax_disable_most_optimizations"]
    context = f"{is_quick} {options_of.__name__}"
    with _QUICK(context), pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", options_of)
        jax.config.update("jax_disable_most_optimizations", is_quick)
        try:
            yield
        finally:
            jax.config.update("jax_disable_most_optimizations", before)


def _quick_options(*arguments: Any, **options: Any) -> Any:
    """Return JAX's options of a program with those of the older emitter."""
    chosen = _compile_options(*arguments, **options)
    chosen.env_option_overrides = [*chosen.env_option_overrides, *OLDER_EMITTER.items()]
    return chosen
