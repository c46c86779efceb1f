"""Runs from end to end: a cache for each module, short measurements, and a pretended device for those who ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.made import QUICK, no_profile, pretend_device


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("cache")
        patch.setenv("EDGEKIT_CACHE", str(root))
        yield root


@pytest.fixture(scope="module", autouse=True)
def hurry() -> Iterator[None]:
    """Every measurement takes a tenth of a second, intervals are coarse, and nothing is profiled."""
    patch = pytest.MonkeyPatch()
    for name in (
        "pipeline.JUDGING",
        "pipeline.JUDGING_A_TRIAL",
        "assembly.FINAL",
        "assembly.INTERIM",
        "search.executor.WEIGHING",
    ):
        patch.setattr(f"edgekit.{name}", QUICK)
    patch.setattr("edgekit.assembly.profile_sides", no_profile)
    patch.setattr("edgekit.measure.statistics.RESAMPLES", 200)
    yield
    patch.undo()


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretended device: what is smaller or has fewer nodes is faster, always by the same."""
    pretend_device(monkeypatch)


@pytest.fixture(autouse=True)
def no_emulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What emulation needs comes from the network, so that the fast tests do without."""
    if "slow" not in request.keywords:
        monkeypatch.setattr("edgekit.devices.why_not", lambda kind: f"{kind} is not emulated in these tests")
