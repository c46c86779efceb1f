from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import Exported

from edgekit.formats.graph import constant
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.makers import integers_of
from edgekit.quantization.schemes import Scheme, quantize_graph, weighted_nodes
from edgekit.quantization.widths import (
    EIGHT,
    MIXED,
    SEVEN,
    UNSIGNED,
    candidate_widths,
    choose_width,
    describe_saturation,
)
from edgekit.report import Saturation

DYNAMIC = Scheme(
    method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True
)
LAYERS = ("model/a", "model/b", "model/c")
SEEN = (Saturation(layer="model/b", saturated=30, sums=40), Saturation(layer="model/c", saturated=1, sums=40))
CANDIDATES = candidate_widths(DYNAMIC, LAYERS, ["model/b", "model/c"])


def test_candidates_go_from_what_cannot_saturate_to_what_is_slower() -> None:
    assert list(CANDIDATES) == [SEVEN, MIXED, UNSIGNED]
    assert (CANDIDATES[SEVEN].reduce_range, CANDIDATES[SEVEN].full_range) == (True, ())
    assert (CANDIDATES[MIXED].reduce_range, CANDIDATES[MIXED].full_range) == (True, ("model/a",))
    assert (CANDIDATES[UNSIGNED].weights, CANDIDATES[UNSIGNED].reduce_range) == ("u8", False)


def test_where_all_layers_saturate_none_has_8_bits_and_signed_activations_take_no_unsigned_weights() -> None:
    assert list(candidate_widths(DYNAMIC, LAYERS, LAYERS)) == [SEVEN, UNSIGNED]
    signed = DYNAMIC.model_copy(update={"activations": "s8", "method": "static"})
    assert list(candidate_widths(signed, LAYERS, ["model/b"])) == [SEVEN, MIXED]


@pytest.mark.parametrize(
    ("losses", "chosen", "tried"),
    [
        ({SEVEN: 0.004, MIXED: 0.0, UNSIGNED: 0.0}, SEVEN, 1),
        ({SEVEN: 0.02, MIXED: 0.005, UNSIGNED: 0.0}, MIXED, 2),
        ({SEVEN: 0.02, MIXED: 0.03, UNSIGNED: 0.001}, UNSIGNED, 3),
        ({SEVEN: 0.03, MIXED: 0.02, UNSIGNED: 0.04}, MIXED, 3),
        ({SEVEN: 0.02, MIXED: 0.02, UNSIGNED: 0.02}, SEVEN, 3),
    ],
)
def test_the_first_that_loses_little_is_chosen_else_the_one_that_loses_least(
    losses: dict[str, float], chosen: str, tried: int
) -> None:
    by_scheme = {scheme: losses[name] for name, scheme in CANDIDATES.items()}
    width = choose_width(CANDIDATES, "what was seen", by_scheme.__getitem__, 0.005)
    assert (width.name, width.scheme) == (chosen, CANDIDATES[chosen])
    assert width.losses == tuple(losses.items())[:tried]
    points = f"{losses[chosen] * 100:.2f} points"
    assert width.reason.startswith(f"{chosen}: what was seen; {points} lost on the selection split")
    for name, loss in width.losses:
        assert name == chosen or f"{name} {loss * 100:.2f} points" in width.reason


def test_without_a_selection_split_weights_have_7_bits() -> None:
    width = choose_width(CANDIDATES, describe_saturation(None, 0), None, 0.005)
    assert (width.name, width.losses) == (SEVEN, ())
    assert width.reason.startswith("7 bits, which cannot saturate: sums of weights of 8 bits may saturate")
    details = width.details(None, 0)
    assert (details["chosen"], details["saturated_at_8_bits"]) == (SEVEN, None)


def test_what_saturates_is_told_with_the_worst_layer() -> None:
    assert describe_saturation((), 64) == "with 8 bits no sum saturated on 64 samples, which others may"
    assert describe_saturation(SEEN, 64) == (
        "with 8 bits, sums of 2 layers saturate on 64 samples, most in model/b (75.0%)"
    )
    assert "sums of 1 layer saturate" in describe_saturation(SEEN[:1], 64)
    assert Saturation(layer="none").share == 0.0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "u8s8"),
        ({"reduce_range": True}, "u8s8, weights of 7 bits"),
        ({"reduce_range": True, "full_range": ("model/a",)}, "u8s8, weights of 7 bits, of 8 in some layers"),
        ({"weights": "u8"}, "u8u8"),
        ({"method": "fp16"}, ""),
    ],
)
def test_the_manifest_names_the_integers(changes: dict[str, object], expected: str) -> None:
    assert integers_of(DYNAMIC.model_copy(update=changes)) == expected
    assert EIGHT not in CANDIDATES


@pytest.mark.parametrize("per_channel", [True, False])
def test_chosen_layers_keep_8_bits_where_the_others_have_7(
    exported: Exported, tmp_path: Path, per_channel: bool
) -> None:
    graph = load_graph(exported["bert"][1].file())
    nodes = weighted_nodes(graph, embeddings=False)
    save_graph(graph, tmp_path / "float.onnx")
    gemm = next(node.name for node in nodes if node.kind == "Gemm")
    wide = (f"model/{nodes[1].name}", f"model/{gemm}", "decoder/other")
    scheme = DYNAMIC.model_copy(update={"reduce_range": True, "per_channel": per_channel, "full_range": wide})
    within: Scheme = scheme.within("model")
    assert within.full_range == (nodes[1].name, gemm)
    quantize_graph(tmp_path / "float.onnx", tmp_path / "int8.onnx", within, [node.name for node in nodes], None)
    widths = {}
    for node in load_graph(tmp_path / "int8.onnx").graph:
        if node.op_type == "MatMulInteger":
            weight = constant(node.inputs[1])
            assert weight is not None
            largest = int(np.abs(weight.astype(int)).max())
            widths[str(node.name).removesuffix("_quant").removesuffix("_MatMul")] = 8 if largest > 64 else 7
    assert len(widths) == len(nodes)
    assert {name for name, width in widths.items() if width == 8} == {nodes[1].name, gemm}
