from __future__ import annotations

import pytest

from edgekit.devices import WAYS, reach
from edgekit.devices.local import LocalDevice
from edgekit.errors import UnknownNameError, UsageError
from edgekit.target import load_target


def test_this_machine_is_used_where_it_is_one() -> None:
    (device,) = reach(load_target("host"), "onnxruntime").devices
    assert isinstance(device, LocalDevice)
    assert (device.label, device.timed) == ("this machine", True)


def test_a_target_that_cannot_be_measured_says_why() -> None:
    other = load_target("host").model_copy(update={"architecture": "aarch64", "features": (), "reach": "local"})
    if reach(other, "onnxruntime").devices:
        other = other.model_copy(update={"architecture": "x86_64"})
    found = reach(other, "onnxruntime", "local")
    assert found.devices == ()
    assert found.because.startswith("the target is ")
    assert found.asked


def test_a_processor_of_another_architecture_is_refused() -> None:
    with pytest.raises(UsageError, match="haswell is no processor of the target 'arm64'") as raised:
        reach(load_target("arm64"), "onnxruntime", "emulated:haswell")
    assert "emulated:cortex-a53,cortex-a76" in raised.value.hint


def test_an_unknown_way_names_those_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match="no device 'locl'") as raised:
        reach(load_target("host"), "onnxruntime", "locl")
    assert all(way in str(raised.value) for way in WAYS)


def test_none_is_a_way_to_measure_nowhere() -> None:
    found = reach(load_target("host"), "onnxruntime", "none")
    assert found.devices == ()
    assert found.because == "--device none asks for no measurement"
    assert not found.asked  # so that it is no error that there is no device
