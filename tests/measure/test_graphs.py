from __future__ import annotations

from typing import Any

from edgekit.formats.onnx import describe_graphs, load_graph, weight_bytes


def test_a_graph_is_its_operators_and_its_weights(exported: Any) -> None:
    _, artifact = exported["bert"]
    (graph,) = describe_graphs(artifact)
    nodes = load_graph(artifact.file()).graph
    assert graph.component == "model"
    assert sum(graph.operators.values()) == len(nodes)
    assert graph.operators["Attention"] == 3
    assert next(iter(graph.weight_bytes)) == "float32"
    # Weights and little else: names, nodes and constants.
    assert 0.5 < sum(graph.weight_bytes.values()) / artifact.size_bytes < 1


def test_weights_are_counted_by_type_in_bytes() -> None:
    import numpy as np
    import onnx_ir as ir

    def weight(name: str, values: Any) -> ir.Value:
        return ir.Value(name=name, const_value=ir.tensor(values))

    weights = [
        weight("a", np.zeros((3, 4), np.float32)),
        weight("b", np.zeros(100, np.int8)),
        weight("c", np.zeros(2, np.float32)),
    ]
    model = ir.Model(ir.Graph([], [], nodes=[], initializers=weights, opset_imports={"": 23}), ir_version=10)
    assert list(weight_bytes(model).items()) == [("int8", 100), ("float32", 56)]
