"""What is timed in place of a quantized graph runs as that does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny import Exported, batches

from edgekit.formats.graph import tidy
from edgekit.formats.onnx import load_graph, save_graph
from edgekit.quantization.schemes import Scheme, quantize_graph, weighted_nodes
from edgekit.runtimes.ort import fuse, open_session
from edgekit.stages.base import Goal
from edgekit.stages.quantize import QUANTIZE
from edgekit.stages.quantize.preview import multiply_integers
from edgekit.stages.quantize.settings import QuantizeSettings
from edgekit.target import load_target

DYNAMIC = Scheme(
    method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=False
)


def fused_kinds(file: Path) -> Counter[str]:
    fuse(file, file.with_suffix(".fused"))
    return Counter(node.op_type for node in load_graph(file.with_suffix(".fused")).graph)


@pytest.mark.parametrize("family", ["bert", "vit"])
@pytest.mark.parametrize("change", [{}, {"per_channel": False}, {"weights": "u8", "per_channel": False}])
def test_the_runtime_makes_the_same_kernels_of_it(
    exported: Exported, tmp_path: Path, family: str, change: dict[str, object]
) -> None:
    scheme = DYNAMIC.model_copy(update=change)
    task, artifact = exported[family]
    model = load_graph(artifact.file())
    chosen = [node.name for node in weighted_nodes(model, embeddings=False) if node.kind == "MatMul"]
    save_graph(model, tmp_path / "named.onnx")
    quantize_graph(tmp_path / "named.onnx", tmp_path / "shipped.onnx", scheme, chosen, None)
    assert multiply_integers(model, scheme) == len(chosen) > 0
    tidy(model)
    save_graph(model, tmp_path / "preview.onnx")
    assert fused_kinds(tmp_path / "preview.onnx") == fused_kinds(tmp_path / "shipped.onnx")
    (batch,) = batches(task, 8)
    feeds = {name: values for name, values in batch.items() if name != "labels"}
    shipped, preview = (open_session(tmp_path / f"{one}.onnx", 1).run(None, feeds)[0] for one in ("shipped", "preview"))
    np.testing.assert_allclose(preview, shipped, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "dynamic INT8"),
        ({"method": "int4"}, "weights in INT4"),
        ({"method": "static"}, None),
        ({"engine": "neural-compressor"}, None),
    ],
)
def test_there_is_a_preview_of_what_takes_no_data(settings: dict[str, object], name: str | None) -> None:
    goal = Goal(load_target("x86-64-vnni"), "onnx", "onnxruntime", 128)
    found = QUANTIZE.preview(QuantizeSettings.model_validate(settings), goal)
    assert (found.name if found else None) == name


def test_there_is_none_of_tflite() -> None:
    goal = Goal(load_target("arm64"), "tflite", "litert", 128)
    assert QUANTIZE.preview(QuantizeSettings(), goal) is None
