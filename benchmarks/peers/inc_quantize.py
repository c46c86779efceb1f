"""INT8 by ONNX Neural Compressor.

https://github.com/onnx/neural-compressor/blob/main/docs/quantization.md

    python inc_quantize.py dynamic MODEL.onnx OUT.onnx
    python inc_quantize.py static MODEL.onnx OUT.onnx MODEL TEXTS
"""

from __future__ import annotations

import sys
from pathlib import Path

from onnx_neural_compressor import data_reader
from onnx_neural_compressor.quantization import config, quantize
from transformers import AutoTokenizer


class Sentences(data_reader.CalibrationDataReader):
    """One sentence at a time, at its own length: padding would be calibrated on as well."""

    def __init__(self, model: str, texts: str) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model)
        lines = Path(texts).read_text(encoding="utf-8").splitlines()
        self.batches = [dict(tokenizer(line, return_tensors="np")) for line in lines]
        self.rewind()

    def get_next(self) -> dict | None:
        return next(self.feeds, None)

    def rewind(self) -> None:
        self.feeds = iter(self.batches)


def dynamic(graph: str, out: str) -> None:
    quantize(graph, out, config.DynamicQuantConfig(per_channel=True))


def static(graph: str, out: str, model: str, texts: str) -> None:
    """With what the project's example for BERT says of the outputs of products."""
    reader = Sentences(model, texts)
    float_outputs = {"optypes_to_exclude_output_quant": ["MatMul", "Gemm", "Attention", "FusedGemm"]}
    quantize(
        graph,
        out,
        config.StaticQuantConfig(
            reader, per_channel=True, calibration_sampling_size=len(reader.batches), extra_options=float_outputs
        ),
    )


if __name__ == "__main__":
    {"dynamic": dynamic, "static": static}[sys.argv[1]](*sys.argv[2:])
