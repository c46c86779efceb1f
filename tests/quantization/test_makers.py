from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from edgekit.quantization.makers import Maker
from edgekit.quantization.schemes import Scheme, WeightedNode
from edgekit.render.stages import float_layers


def test_layers_that_stay_float_in_any_case_are_counted_and_named() -> None:
    scheme = Scheme(
        method="dynamic", activations="u8", weights="s8", per_channel=True, reduce_range=False, embeddings=True
    )
    unused = cast("Any", None)
    nodes = {"model": [WeightedNode(name, "MatMul", 4096) for name in ("a", "b", "c")]}
    maker = Maker(unused, scheme, nodes, unused, Path, unused, {"spared": ["model/d", "model/e"]})
    layers, left = maker.census(unused, [])
    assert layers == 5
    told = {"INT8 moves them most, and quantize.float_share spares those": ["model/d", "model/e"]}
    assert float_layers({"float_layers": cast("Any", left)}) == told
