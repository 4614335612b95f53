"""Every module can be imported where Unix's own parts of Python are missing, as on Windows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_architecture import MODULES

ROOT = Path(__file__).parent.parent
IMPORT = """
import importlib, os, signal, sys, warnings

for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for module, name in ((os, "setsid"), (os, "sysconf"), (os, "getuid"), (os, "fork"), (signal, "SIGKILL")):
    delattr(module, name)

# filelock says so where `fcntl` is missing on a system that should have it.
warnings.filterwarnings("ignore", message="only soft file lock is available")
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # What an extra installs is imported by the modules that are its door alone.
        if error.name.partition(".")[0] not in os.environ["OPTIONAL"].split():
            print(f"{name}: {error}")
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
"""


OPTIONAL = ("mlflow", "onnx", "optuna", "sklearn", "tensorboardX", "trackio", "wandb")
"""Packages of the extras for which a module of ours is the only door."""


@pytest.mark.slow
def test_every_module_can_be_imported_without_the_parts_of_unix():
    names = [".".join(("jaxseq", *module.parts)).removesuffix(".__init__") for module in MODULES]
    process = subprocess.run(
        [sys.executable, "-c", IMPORT, *names],
        cwd=ROOT,
        env={**os.environ, "OPTIONAL": " ".join(OPTIONAL)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == "", process.stdout
