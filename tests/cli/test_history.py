from __future__ import annotations

from pathlib import Path

import pytest
from records import make_record, p50


@pytest.mark.parametrize(
    "words",
    [
        ("history",),
        ("bench", "history"),
        ("bench", "history", "--metric", "latency.p50"),
        ("bench", "history", "--json", "--metric=latency.p50"),
    ],
)
def test_both_ways_to_say_it_show_the_same(run, tmp_path: Path, words) -> None:
    make_record(p50(6.8)).save(tmp_path / "one.json")
    document = run(*words, str(tmp_path), "--json").document
    assert (document["schema"], document["metric"]) == ("edgekit.history/1", "latency.p50")
    assert [point["value"] for point in document["points"]] == [6.8]


def test_a_path_of_that_name_is_measured(run, pretend, recorder) -> None:
    bench = recorder(make_record(p50(6.8)))
    pretend(bench=bench)
    assert run("bench", "history").code == 0
    assert run("bench", "history", "--threads", "2").code == 0
    assert run("bench", "history", "--json", "--threads", "2").code == 0
    assert bench.arguments == ("history",)
