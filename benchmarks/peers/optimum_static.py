"""Static INT8 by optimum.

https://huggingface.co/docs/optimum-onnx/onnxruntime/usage_guides/quantization

    python optimum_static.py MODEL TEXTS OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

from datasets import Dataset
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig
from transformers import AutoTokenizer


def main(model: str, texts: str, out: str) -> None:
    exported = ORTModelForSequenceClassification.from_pretrained(model, export=True)  # its folder goes when this does
    quantizer = ORTQuantizer.from_pretrained(exported)
    tokenizer = AutoTokenizer.from_pretrained(model)
    lines = Path(texts).read_text(encoding="utf-8").splitlines()
    rows = Dataset.from_list([dict(tokenizer(line)) for line in lines])
    wanted = AutoQuantizationConfig.avx512_vnni(is_static=True, per_channel=True, operators_to_quantize=["MatMul"])
    ranges = quantizer.fit(
        dataset=rows,
        calibration_config=AutoCalibrationConfig.minmax(rows),
        operators_to_quantize=wanted.operators_to_quantize,
    )
    quantizer.quantize(save_dir=out, calibration_tensors_range=ranges, quantization_config=wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
