"""What cannot be is told before any work."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_request_keys import ARM, REQUEST

from edgekit.bounds import MAX_GRAPH_BYTES
from edgekit.devices import Reached
from edgekit.errors import ModelError
from edgekit.feasibility import check_request
from edgekit.recipe import load_recipe


def test_a_model_that_no_tflite_file_holds_is_refused() -> None:
    fitting = replace(REQUEST, target=ARM, format="tflite", recipe=load_recipe("quantize"), reached=Reached())
    check_request(fitting)
    large = replace(fitting, source=fitting.source.model_copy(update={"size_bytes": MAX_GRAPH_BYTES + 1}))
    with pytest.raises(ModelError, match=r"the weights have 2147483648 bytes") as caught:
        check_request(large)
    assert caught.value.id == "model.too-large"
    check_request(replace(large, format="onnx"))
