"""Type checkers see the types of a user's program, `tests/support/user_types.py`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = ROOT / "tests" / "support" / "user_types.py"
PYREFLY = shutil.which("pyrefly", path=Path(sys.executable).parent)

needs_pyrefly = pytest.mark.skipif(PYREFLY is None, reason="needs pyrefly")


def errors(file):
    """What pyrefly has against a file: one line each, an ignore without an error included."""
    options = [
        "--python-interpreter-path",
        sys.executable,
        "--search-path",
        str(ROOT),
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    output = ["--error", "unused-ignore", "--output-format", "min-text", "--summary", "none"]
    command = [str(PYREFLY), "check", *options, *output, str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode in (0, 1), result.stderr
    return result.stdout.splitlines()


@needs_pyrefly
@pytest.mark.exact_versions
def test_a_users_program_has_the_types_that_it_is_promised():
    assert errors(PROGRAMS) == []


@needs_pyrefly
@pytest.mark.exact_versions
def test_an_any_and_a_needless_ignore_are_errors(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(
        "from typing import Any, assert_type\n"
        "def returned() -> Any: ...\n"
        "assert_type(returned(), int)\n"
        "number: int = 1  # pyrefly: ignore[bad-assignment]\n"
    )
    assert ["assert-type" in line or "unused-ignore" in line for line in errors(file)] == [True, True]


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "jaxseq" / "py.typed").exists()
