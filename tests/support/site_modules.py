"""Modules of docs/site, which is no package."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def site_module(name):
    """Import a module of docs/site."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
