from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fake_devices import Emulator

from edgekit.devices.base import Device
from edgekit.devices.command import CommandDevice
from edgekit.devices.emulation.root import Root
from edgekit.devices.meter import Meter
from edgekit.gate import measurable
from edgekit.gate.margins import parse_margins
from edgekit.gate.measurable import find_counter, find_lacking
from edgekit.places import NO_CLOCK
from edgekit.runtimes.measuring import Place, here

ALL = parse_margins("latency.p50=1%,cold_start=3%,energy=5%,instructions=1%,size=1%")


class Alone(CommandDevice):
    """A device whose runner starts no further processes."""

    starts_processes = False


def elsewhere(device: Device) -> Place:
    return replace(here(2), device=device)


def test_an_emulator_has_no_times() -> None:
    assert find_lacking(ALL, elsewhere(Emulator()), "") == {"latency.p50": NO_CLOCK, "cold_start": NO_CLOCK} | {
        "energy": NO_CLOCK
    }


def test_this_machine_lacks_what_it_has_no_counter_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurable, "Meter", lambda: Meter(str(tmp_path)))
    assert find_lacking(ALL, here(1), "none") == {"instructions": "none", "energy": measurable.NO_ENERGY}
    assert find_lacking(ALL, here(1), "") == {"energy": measurable.NO_ENERGY}
    assert find_lacking(parse_margins("size=1%"), here(1), "none") == {}
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text("1000")
    (folder / "name").write_text("package-0")
    assert find_lacking(ALL, here(1), "") == {}


def test_a_device_that_starts_no_processes_tells_no_cold_start() -> None:
    assert find_lacking(ALL, elsewhere(Alone("{runner}")), "") == {"cold_start": measurable.NO_START}


def test_instructions_are_counted_here_where_the_emulator_is_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurable, "find_root", lambda kind, cache: None)
    monkeypatch.setattr(measurable, "why_not", lambda kind: None)
    assert find_counter(here(1)) == (None, measurable.NOT_SET_UP)
    monkeypatch.setattr(measurable, "why_not", lambda kind: f"{kind} needs Linux")
    assert find_counter(here(1)) == (None, "x86-64 needs Linux")
    monkeypatch.setattr(measurable, "find_root", lambda kind, cache: Root(kind, tmp_path, 1, ()))
    counter, why = find_counter(here(4, "litert"))
    assert counter is not None
    assert (counter.device.label, counter.runtime, counter.threads, why) == ("haswell, emulated", "litert", 1, "")
    assert find_counter(here(1, provider="cuda")) == (None, measurable.ON_GPU)
    assert find_counter(elsewhere(Alone("{runner}"))) == (None, measurable.NOT_HERE)
