"""A process that does commands one after the other, each in a child of its own: what they import is imported once.

Run as a program, it takes a line of JSON for each command and answers with the child's number and, at its end, with the
status that `os.waitpid` gives.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quick_compilation import CHILD_ENVIRONMENT

CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
"""Audit events of a change to the disk, besides a file that is opened to be written."""
COMMANDS = ("train.__main__", "forecast", "sample.__main__", "sweep.__main__", "report.__main__")


class Server:
    """Commands that run, one after the other, in a folder."""

    def __init__(self, pipe: subprocess.Popen[str]) -> None:
        self.pipe = pipe

    def start(self, module: str, words: Sequence[str], kill_at: int = 0) -> int:
        """Start a command and return the number of its process, which kills itself before a change to the disk.

        `kill_at` is the number of the change, from 1 on; 0 counts them in the file `changes.txt`.
        """
        assert self.pipe.stdin is not None
        self.pipe.stdin.write(json.dumps([module, list(words), kill_at]) + "\n")
        self.pipe.stdin.flush()
        return int(self.answer())

    def answer(self) -> str:
        assert self.pipe.stdout is not None
        return self.pipe.stdout.readline().strip()

    def finish(self) -> int:
        """Return 0, the number of the signal, or 256 times the exit status."""
        return int(self.answer())


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    import jaxseq

    package = Path(jaxseq.__file__).parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(package), str(Path(__file__).parent)]),
        "PYTHONWARNINGS": "ignore",
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        **CHILD_ENVIRONMENT,
    }
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, __file__], cwd=folder, env=environment, **pipes) as pipe:
        served = Server(pipe)
        assert served.answer() == "ready"
        yield served
        assert pipe.stdin is not None
        pipe.stdin.close()


def serve() -> None:
    import pytest
    from quickened import quicken

    modules = {name: importlib.import_module(f"jaxseq.{name}") for name in COMMANDS}
    quicken(pytest.MonkeyPatch())
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            module, words, kill_at = json.loads(line)
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            count_changes(kill_at)
            status = modules[module].main(words)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


def count_changes(kill_at: int) -> None:
    """Count the changes to this folder, and end before one of them as by `kill -9`."""
    here = os.getcwd()
    counter = os.open("changes.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    number = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal number
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writes and event not in CHANGES:
            return
        path = os.path.join(here, os.fsdecode(arguments[0])) if isinstance(arguments[0], str | bytes | Path) else ""
        if not path.startswith(here) or path.startswith(os.path.join(here, "compiled")):
            return
        number += 1
        os.pwrite(counter, b"%d" % number, 0)
        if number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


if __name__ == "__main__":
    serve()
