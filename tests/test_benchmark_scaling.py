"""Scaling: a device computes its share, sums are counted, and the words say what the numbers do."""

import pytest

from jaxseq.benchmark import __main__ as program
from jaxseq.benchmark import scaling
from jaxseq.benchmark.workloads import Workload
from jaxseq.errors import UsageError

TINY = Workload("tiny", "gru", 5, 6, 8, 1, 3)


def row(devices: int, step: float, share: float, sums: float, cores: int = 2) -> dict:
    ms = {"step": step, "share": share, "sums": sums}
    counts = {"sums": devices > 1, "flops": 100 / devices, "parameters": 9}
    return {"workload": "tiny", "devices": devices, "cores": cores, "ms": ms} | counts


def test_the_words_give_gain_limit_and_the_part_of_the_sums() -> None:
    (said,) = scaling.words([row(1, 10, 10, 0), row(2, 8, 6, 1), row(4, 5, 4, 1.5)])
    assert "4 devices are 2.00 times as fast as one" in said
    assert "takes 40% of the whole one's time, so 2.50 times is the most" in said
    assert "sums take 30% of the step; 4 devices share 2 cores" in said
    assert "share 4 cores" not in scaling.words([row(1, 10, 10, 0, 4), row(4, 5, 4, 1.5, 4)])[0]


def test_every_device_has_its_line() -> None:
    assert scaling.table([row(1, 10, 10, 0), row(4, 5, 4, 1.5)]).row_count == 2


def test_a_step_on_four_devices_is_a_quarter_of_the_work_on_each_and_a_sum_between_them() -> None:
    found = scaling.timed(TINY, 1)
    assert found["devices"] == 4 and found["sums"] > 0 and all(ms > 0 for ms in found["ms"].values())


def test_scaling_stands_alone() -> None:
    with pytest.raises(UsageError, match="--scaling stands alone"):
        program.check(program.Options(scaling=True, sweep=True))
    with pytest.raises(UsageError, match="--scaling takes all cores"):
        program.check(program.Options(scaling=True, core=0))
