"""The memory that a process may take: the machine's, bounded by its control groups, shared by workers."""

import math
import os
from pathlib import Path

import pytest

from jaxseq.common import memory
from jaxseq.common.errors import UsageError


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROCESSES", 1)


def place(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


GROUPS = {
    "none": ({}, math.inf),
    "version 2, within a container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "4096\n"}, 4096),
    "version 2, no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, math.inf),
    "version 2, the group around it": (
        {
            "proc/self/cgroup": "0::/jobs/7\n",
            "sys/fs/cgroup/jobs/7/memory.max": "max\n",
            "sys/fs/cgroup/jobs/memory.max": "1000\n",
            "sys/fs/cgroup/memory.max": "2000\n",
        },
        1000,
    ),
    "version 2, a path of the host": (
        {"proc/self/cgroup": "0::/docker/0a1b\n", "sys/fs/cgroup/memory.max": "512\n"},
        512,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "9:cpu:/x\n4:memory:/slurm/job_7\n",
            "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": "2048\n",
            "sys/fs/cgroup/memory.max": "1\n",
        },
        2048,
    ),
    "damaged": ({"proc/self/cgroup": "nothing\n"}, math.inf),
}


@pytest.mark.parametrize(("files", "bytes_"), GROUPS.values(), ids=GROUPS)
def test_the_smallest_limit_of_all_control_groups_counts(tmp_path: Path, files: dict[str, str], bytes_: float) -> None:
    assert memory._control_groups(place(tmp_path, files)) == bytes_


def test_the_machine_or_its_control_group_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert memory._machine() == pytest.approx(total, rel=0.01)
    monkeypatch.setattr(memory, "_control_groups", lambda: 1000)
    assert memory.limit() == 1000


def test_a_system_that_does_not_say_sets_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert memory._machine() == math.inf


def test_a_lack_is_told_with_both_numbers_and_the_workers_that_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_machine", lambda: 8 * memory.GIB)
    monkeypatch.setattr(memory, "_control_groups", lambda: math.inf)
    memory.check("too much", 8 * memory.GIB, where="--batch")
    memory.share(4)
    with pytest.raises(UsageError) as raised:
        memory.check("too much", 3 * memory.GIB, where="--batch")
    error = raised.value
    assert (error.where, error.got) == ("--batch", "about 3.0 GiB")
    assert "2.0 GiB" in str(error.needed) and "4 workers" in str(error.needed)


@pytest.mark.parametrize("needed", [10**30, 2.0**90, 10**400])
def test_a_number_of_any_size_can_be_told(needed: float) -> None:
    with pytest.raises(UsageError):
        memory.check("too much", needed, where="--batch", most=1.0)
