"""Scaling: a device computes its share, sums are counted, and the words say what the numbers do."""

import pytest

from jaxseq.benchmark import __main__ as program
from jaxseq.benchmark import devices as scaling
from jaxseq.benchmark.workloads import Workload
from jaxseq.common.errors import UsageError

TINY = Workload("tiny", "gru", 5, 6, 8, 1, 3)


def row(devices: int, step: float, share: float, sums: float, cores: int = 2) -> dict:
    ms = {"step": step, "share": share, "sums": sums}
    busy = dict.fromkeys(ms, 1.3)
    return {"workload": "tiny", "devices": devices, "cores": cores, "ms": ms, "busy": busy, "sums": devices > 1}


def test_the_words_give_gain_both_limits_and_the_part_of_the_sums() -> None:
    two, four = scaling.words([row(1, 10, 10, 0), row(2, 8, 6, 1), row(4, 5, 4, 1.5)])
    assert "2 devices are 1.25 times as fast" in two and "4 devices are 2.00 times as fast as one" in four
    assert "1/4 of the batch in 40% of the time: 2.50" in four
    assert "2 of which one device keeps 1.3 busy: 1.54" in four and "Sums take 30%" in four


def test_every_device_has_its_line() -> None:
    assert len(scaling.table([row(1, 10, 10, 0), row(4, 5, 4, 1.5)]).splitlines()) == 2 + 2


@pytest.mark.usefixtures("compiled_quickly")
def test_a_step_on_four_devices_has_its_sums_and_all_are_timed() -> None:
    found = scaling.timed(TINY, 1)
    assert found["devices"] == 4 and found["sums"] > 0 and all(ms > 0 for ms in found["ms"].values())
    assert found["ms"].keys() == found["busy"].keys()


def test_scaling_stands_alone() -> None:
    with pytest.raises(UsageError, match="does not go with this option"):
        program.check(program.Options(scaling=True, cell="rnn"))
    with pytest.raises(UsageError, match="does not go with this option"):
        program.check(program.Options(scaling=True, core=0))
