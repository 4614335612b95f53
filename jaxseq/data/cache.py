"""Where everything that was downloaded or computed is kept on this machine, and how a file gets there."""

from __future__ import annotations

import os
from pathlib import Path

from jaxseq.common.errors import UsageError
from jaxseq.common.files import user_path


def cache_folder(kind: str = "prices") -> Path:
    """The folder for one kind of files: $JAXSEQ_CACHE, or jaxseq/`kind` in $XDG_CACHE_HOME or in ~/.cache.

    Raises `UsageError` if there is no home folder.
    """
    own = os.environ.get("JAXSEQ_CACHE")
    # The variable wins for every kind of file, so that one folder holds the whole cache of a test or a job.
    folder = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "jaxseq", kind)
    try:
        return user_path(folder)
    except UsageError as error:
        raise UsageError(f"no home folder for the cache {folder}: set JAXSEQ_CACHE to a folder") from error
