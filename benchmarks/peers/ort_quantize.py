"""INT8 by onnxruntime's quantizer.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html

    python ort_quantize.py dynamic MODEL.onnx OUT.onnx
    python ort_quantize.py static MODEL.onnx OUT.onnx MODEL TEXTS
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from transformers import AutoTokenizer


class Sentences(CalibrationDataReader):
    """One sentence at a time, at its own length: padding would be calibrated on as well."""

    def __init__(self, model: str, texts: str) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model)
        lines = Path(texts).read_text(encoding="utf-8").splitlines()
        self.feeds = iter([dict(tokenizer(line, return_tensors="np")) for line in lines])

    def get_next(self) -> dict | None:
        return next(self.feeds, None)


def dynamic(graph: str, out: str) -> None:
    """Per channel; the default type is what the quantizer asks for where a graph holds fused operators."""
    untyped = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(graph, out, weight_type=QuantType.QInt8, per_channel=True, extra_options=untyped)


def static(graph: str, out: str, model: str, texts: str) -> None:
    """Unsigned activations and signed weights, which VNNI multiplies; the products with weights only."""
    prepared = Path(out).with_name("prepared.onnx")
    quant_pre_process(graph, str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        out,
        Sentences(model, texts),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )


if __name__ == "__main__":
    {"dynamic": dynamic, "static": static}[sys.argv[1]](*sys.argv[2:])
