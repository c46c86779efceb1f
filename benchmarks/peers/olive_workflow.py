"""Dynamic INT8 by a workflow of Olive: conversion, the optimizer for transformers, quantization.

https://microsoft.github.io/Olive/getstarted/quickstart_bert_example.html

    python olive_workflow.py MODEL OUT
"""

from __future__ import annotations

import sys

from olive import run

CPU = {"type": "LocalSystem", "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}]}


def main(model: str, out: str) -> None:
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
            "passes": {
                "conversion": {"type": "OnnxConversion", "target_opset": 17},
                "optimization": {"type": "OrtTransformersOptimization", "model_type": "bert"},
                "quantization": {"type": "OnnxDynamicQuantization", "precision": "int8", "per_channel": True},
            },
            "evaluate_input_model": False,
            "output_dir": out,
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
