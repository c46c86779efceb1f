"""INT8 by a workflow of Olive: conversion, the optimizer for transformers, quantization.

https://microsoft.github.io/Olive/getstarted/quickstart_bert_example.html

    python olive_workflow.py dynamic MODEL OUT
    python olive_workflow.py static MODEL OUT TEXTS
"""

from __future__ import annotations

import sys

from olive import run

CPU = {"type": "LocalSystem", "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}]}
DYNAMIC = {"type": "OnnxDynamicQuantization", "precision": "int8", "per_channel": True}
# Unsigned activations and signed weights, which VNNI multiplies; the products only.
STATIC = {
    "type": "OnnxStaticQuantization",
    "precision": "int8",
    "activation_type": "uint8",
    "per_channel": True,
    "quant_format": "QDQ",
    "op_types_to_quantize": ["MatMul", "Gemm"],
    "data_config": "sentences",
}


def sentences(model: str, texts: str) -> dict:
    """One sentence at a time, at its own length."""
    return {
        "name": "sentences",
        "type": "HuggingfaceContainer",
        "model_name": model,
        "task": "text-classification",
        "load_dataset_config": {"data_name": "text", "data_files": texts, "split": "train"},
        "pre_process_data_config": {"input_cols": ["text"], "padding": False},
        "dataloader_config": {"batch_size": 1},
    }


def main(kind: str, model: str, out: str, texts: str | None = None) -> None:
    run(
        {
            "input_model": {
                "type": "HfModel",
                "model_path": model,
                "task": "text-classification",
                "load_kwargs": {"attn_implementation": "eager"},
            },
            "systems": {"local_system": CPU},
            "host": "local_system",
            "target": "local_system",
            "data_configs": [sentences(model, texts)] if texts else [],
            "passes": {
                "conversion": {"type": "OnnxConversion", "target_opset": 17},
                "optimization": {"type": "OrtTransformersOptimization", "model_type": "bert"},
                "quantization": {"dynamic": DYNAMIC, "static": STATIC}[kind],
            },
            "evaluate_input_model": False,
            "output_dir": out,
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
