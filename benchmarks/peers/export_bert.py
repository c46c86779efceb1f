"""Export a sequence classifier to ONNX as the notebook of onnxruntime does it: traced, with free batch and length.

https://github.com/microsoft/onnxruntime-inference-examples/blob/main/quantization/notebooks/bert/Bert-GLUE_OnnxRuntime_quantization.ipynb
The example for BERT of ONNX Neural Compressor refers to the same notebook.

    python export_bert.py MODEL MODEL.onnx
"""

from __future__ import annotations

import sys

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

OPSET = 17


class Logits(torch.nn.Module):
    def __init__(self, classifier: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.classifier = classifier
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.classifier(**dict(zip(self.names, inputs, strict=True))).logits


def main(model: str, graph: str) -> None:
    classifier = AutoModelForSequenceClassification.from_pretrained(model, attn_implementation="eager").eval()
    sample = dict(AutoTokenizer.from_pretrained(model)("a sample of some words", return_tensors="pt"))
    names = list(sample)
    with torch.no_grad():
        torch.onnx.export(
            Logits(classifier, names),
            tuple(sample.values()),
            graph,
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=True,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**{name: {0: "batch", 1: "sequence"} for name in names}, "logits": {0: "batch"}},
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
