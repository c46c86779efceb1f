from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.planning import COSTING_SECONDS, FIXED_SECONDS, HIDDEN_SIZES, _Estimate
from edgekit.recipe import load_recipe


@pytest.mark.parametrize(
    ("settings", "tables"),
    [({}, 0), ({"prune.cost": "measured"}, 1), ({"prune.cost": "measured", "prune.hidden": "0.5"}, HIDDEN_SIZES)],
)
def test_a_table_of_costs_takes_its_time_without_data_too(settings: dict[str, str], tables: int) -> None:
    """What needs no data is pruned by its weights alone, and still by a table that is measured."""
    request: Any = SimpleNamespace(source=SimpleNamespace(size_bytes=4), data=None, costs=None)
    prune = load_recipe("default", {"prune.importance": "weights", **settings}).steps[0]
    assert _Estimate(request).seconds(prune) == FIXED_SECONDS["prune"] + tables * COSTING_SECONDS
    request.costs = "costs.json"
    assert _Estimate(request).seconds(prune) == FIXED_SECONDS["prune"]
