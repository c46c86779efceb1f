from __future__ import annotations

import json

import pytest
from pruning.encoders.test_table import of_sizes, table

from edgekit.pruning.encoders.table import CostTable, MeasuredEncoder, load_costs
from edgekit.tasks.base import Workload

MEASURED = [
    MeasuredEncoder(widths=((12, 1536), (6, 512)), cost=4.0, predicted=4.0, fitted=True),
    MeasuredEncoder(widths=((9, 320), (5, 768)), cost=3.0, predicted=2.91, fitted=False),
]


@pytest.fixture
def measured() -> CostTable:
    return table(encoders=MEASURED, rewrites=("first_token",), warnings=("other processes used 40%",))


def test_costs_passes_its_options_and_shows_predicted_beside_measured(run, pretend, recorder, measured):
    costs = recorder(measured)
    pretend(costs=costs)
    result = run(
        "costs", "m", "--target", "x86-64-vnni", "-o", "c.json", "--tokens", "64", "--set", "quantize.scheme=u8u8"
    )
    assert result.code == 0
    assert costs.arguments == ("m",)
    assert (costs.keywords["output"], costs.keywords["target"]) == ("c.json", "x86-64-vnni")
    assert costs.keywords["workload"] == Workload(tokens=64)
    assert costs.keywords["settings"] == {"quantize.scheme": "u8u8"}
    lines = result.stdout.splitlines()
    assert lines[0] == "Costs for x86-64-vnni"
    text = " ".join(result.stdout.split())
    assert "attention 3: 0.700 6: 1.000 12: 1.800" in text
    assert "feed-forward, last layer 512: 0.050 1536: 0.100" in text
    assert "9x320 5x768 2.910 3.000 -3.0%" in text
    assert "12x1536" not in text
    assert "first_token" in text
    assert "other processes used 40%" in text
    assert "an error above" not in text


def test_a_large_error_is_told(run, pretend, recorder, measured):
    worse = measured.model_copy(update={"encoders": (MEASURED[1].model_copy(update={"predicted": 3.6}),)})
    pretend(costs=recorder(worse))
    assert "an error above 10%" in run("costs", "m").stdout


def test_costs_shows_each_hidden_size(run, pretend, recorder):
    between = MEASURED[1].model_copy(update={"hidden": 240})
    pretend(costs=recorder(of_sizes(192, 288).model_copy(update={"encoders": (*MEASURED, between)})))
    result = run("costs", "m", "--set", "prune.hidden=0.67")
    text = " ".join(result.stdout.split())
    assert "384, 288 and 192 wide" in text
    assert text.index("Parts, at a hidden size of 288") < text.index("Parts, at a hidden size of 192")
    assert "attention 3: 0.350 6: 0.500 12: 0.900" in text
    assert "9x320 5x768 384 2.910 3.000 -3.0%" in text
    assert "9x320 5x768 240 2.910 3.000 -3.0%" in text


def test_costs_gives_one_document_which_is_a_table_again(run, pretend, recorder, measured, tmp_path):
    pretend(costs=recorder(measured))
    document = run("costs", "m", "--json").document
    (tmp_path / "costs.json").write_text(json.dumps(document), encoding="utf-8")
    assert load_costs(tmp_path / "costs.json") == measured
    assert document["schema"] == "edgekit.costs/1"
    assert document["digest"] == measured.digest
    assert document["largest_error"] == pytest.approx(0.03)
    assert document["attention"] == [[3, 0.7], [6, 1.0], [12, 1.8]]


def test_compress_hands_over_a_shared_table(run, pretend, recorder):
    compress = recorder(ValueError("enough"))
    pretend(compress=compress)
    run("compress", "m", "--costs", "c.json")
    assert compress.keywords["costs"] == "c.json"
