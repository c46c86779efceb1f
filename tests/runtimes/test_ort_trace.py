from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.runtimes.ort_trace import inferences, own_times, summed, take_trace


def kernel(name: str, ts: int, dur: int, index: int = 0) -> dict[str, Any]:
    """A node's event as onnxruntime 1.32 writes it, without what it says of memory."""
    kind = name.partition("_")[0]
    args = {"op_name": kind, "provider": "CPUExecutionProvider", "node_index": str(index)}
    return {
        "cat": "Node",
        "pid": 1,
        "tid": 1,
        "dur": dur,
        "ts": ts,
        "ph": "X",
        "name": f"{name}_kernel_time",
        "args": args,
    }


def session(name: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Session", "pid": 1, "tid": 1, "dur": dur, "ts": ts, "ph": "X", "name": name, "args": {}}


def run(start: int, *durations: int) -> list[dict[str, Any]]:
    """The events of an inference: two products, the second of which begins as the first ends, and a sum."""
    first, second, last = durations
    return [
        kernel("MatMul_0", start, first, 0),
        kernel("MatMul_1", start + first, second, 1),
        kernel("Add_2", start + first + second, last, 2),
        session("SequentialExecutor::Execute", start, sum(durations)),
        session("model_run", start - 2, sum(durations) + 4),
    ]


# As recorded: the loading of the session, then three inferences, of which the first is slower.
RECORDED = [
    session("model_loading_uri", 96, 963),
    session("session_initialization", 1291, 15329),
    *run(17440, 391, 87, 46),
    *run(18385, 239, 16, 124),
    *run(18846, 229, 13, 25),
]


def test_each_inference_has_the_kernels_that_ended_before_it() -> None:
    assert [[event["dur"] for event in run] for run in inferences(RECORDED)] == [
        [391, 87, 46],
        [239, 16, 124],
        [229, 13, 25],
    ]


def test_times_are_summed_by_kind_of_operator_in_milliseconds() -> None:
    product, addition = summed(list(inferences(RECORDED)))["operators"]
    assert (product["operator"], product["provider"]) == ("MatMul", "CPUExecutionProvider")
    assert (product["nodes"], addition["nodes"]) == (2, 1)
    assert product["ms"] == pytest.approx([0.478, 0.255, 0.242])
    assert addition["ms"] == pytest.approx([0.046, 0.124, 0.025])


def test_each_node_has_its_median_and_what_it_read_and_wrote() -> None:
    noted = kernel("MatMul_0", 0, 30)
    noted["args"] |= {"input_type_shape": [{"float": [4, 16]}, {"int8": []}], "output_type_shape": [{"float": [4, 8]}]}
    first, second, addition = summed([*inferences(RECORDED), [noted]])["nodes"]
    assert [one["name"] for one in (first, second, addition)] == ["MatMul_0", "MatMul_1", "Add_2"]
    # Of 391, 239, 229 and 30; of 87, 16, 13 and none.
    assert (first["ms"], second["ms"]) == (pytest.approx(0.234), pytest.approx(0.0145))
    assert first["reads"] == []
    (only,) = summed([[noted]])["nodes"]
    assert (only["reads"], only["writes"]) == ([("float", [4, 16]), ("int8", [])], [("float", [4, 8])])


@pytest.mark.parametrize(
    ("warmup", "block", "counted"),
    [(0, 1, [0.255]), (1, 1, [0.242]), (0, 2, [0.255, 0.242]), (2, 1, [])],
)
def test_what_warms_up_is_left_out_and_the_file_removed(
    tmp_path: Path, warmup: int, block: int, counted: list[float]
) -> None:
    file = tmp_path / "trace.json"
    file.write_text(json.dumps(RECORDED))
    operators = take_trace(str(file), warmup, block)["operators"]
    assert [one["ms"] for one in operators if one["operator"] == "MatMul"] == (
        [pytest.approx(counted)] if counted else []
    )
    assert not file.exists()


def test_a_loop_is_told_without_what_runs_inside_it() -> None:
    events = [
        kernel("MatMul_0", 100, 20),
        kernel("Add_1", 131, 5),
        kernel("Add_1", 140, 6),
        kernel("Loop_2", 125, 30),
        kernel("Relu_3", 160, 4),
    ]
    assert [(event["name"].partition("_")[0], own) for event, own in own_times(events)] == [
        ("MatMul", 20),
        ("Add", 5),
        ("Add", 6),
        ("Loop", 19),
        ("Relu", 4),
    ]
    nodes = {one["operator"]: one["nodes"] for one in summed([events])["operators"]}
    assert nodes == {"MatMul": 1, "Add": 1, "Loop": 1, "Relu": 1}


def test_an_operator_that_an_inference_did_not_reach_took_no_time_in_it() -> None:
    operators = summed([[kernel("Add_0", 0, 7)], [kernel("Mul_1", 0, 9)]])["operators"]
    assert {one["operator"]: one["ms"] for one in operators} == {"Add": [0.007, 0.0], "Mul": [0.0, 0.009]}
