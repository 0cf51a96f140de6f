import time
from pathlib import Path

from acclimate.energy import Energy


def _package(powercap: Path, name: str, joules: float) -> Path:
    zone = powercap / name
    zone.mkdir(exist_ok=True)
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    return zone


def test_the_energy_of_every_package_is_summed_and_parts_are_not_counted_twice(tmp_path):
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        _package(tmp_path, name, 100.0)
    energy = Energy(tmp_path)
    _package(tmp_path, "intel-rapl:0", 130.0)
    _package(tmp_path, "intel-rapl:1", 105.0)
    _package(tmp_path, "intel-rapl:0:0", 120.0)
    assert energy.joules() == 35.0


def test_a_counter_that_wraps_round_is_read_right(tmp_path):
    _package(tmp_path, "intel-rapl:0", 262143.0)
    energy = Energy(tmp_path)
    _package(tmp_path, "intel-rapl:0", 10.0)
    assert round(energy.joules() or 0.0, 2) == 10.33


def test_without_a_counter_there_is_no_figure(tmp_path):
    assert Energy(tmp_path).joules() is None


def test_a_counter_that_wraps_round_between_two_questions_is_read_in_between(tmp_path):
    """Start, one lap and 10 J more: without a reading in between the lap would be lost."""
    _package(tmp_path, "intel-rapl:0", 100.0)
    energy = Energy(tmp_path, read_every_s=0.01)
    _package(tmp_path, "intel-rapl:0", 250_000.0)
    until = time.monotonic() + 10
    while energy._joules < 249_900 and time.monotonic() < until:
        time.sleep(0.01)
    _package(tmp_path, "intel-rapl:0", 110.0)
    assert round(energy.joules() or 0.0) == 249_900 + 12_143 + 110
