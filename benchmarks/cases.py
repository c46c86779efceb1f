"""What is compressed: the cases of the suite, and those that belong together. It imports nothing that is beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Goals:
    """How far a case is to go, beside keeping its limits: so many times less than its FP32 export, or than a peer."""

    latency: float | None = None
    size: float | None = None
    instructions: dict[str, float] = field(default_factory=dict)  # by device
    natural_lengths: float | None = None  # of natural_lengths.py
    fastest_peer: float | None = None  # of peers.py


@dataclass(frozen=True)
class Case:
    """One run: assets by key, the device, and what differs from the defaults."""

    model: str = "minilm-sst2"
    data: str = "sst2"
    target: str = "x86-64-vnni"
    image: int | None = None
    student: str | None = None  # below benchmarks/models/
    max_drop: float = 0.01
    format: str | None = None
    recipe: str | Path | None = "default"
    settings: dict[str, str] = field(default_factory=dict)
    code: str | None = None  # below benchmarks/models/, where the model's asset is the weights of a function
    options: dict[str, Any] = field(default_factory=dict)  # further ones of `edgekit.compress`
    goals: Goals = Goals()


CASES = {
    "sst2-vnni": Case(),
    "sst2-arm64": Case(target="arm64", goals=Goals(instructions={"cortex-a76, emulated": 8.0})),
    "fashion-vnni": Case(model="fashion-mnist-vit", data="fashion-mnist", image=28),
    "sst2-tflite": Case(format="tflite"),
    "sst2-armv7": Case(target="armv7"),
    "fashion-tflite": Case(model="fashion-mnist-vit", data="fashion-mnist", image=28, format="tflite"),
    "cifar-tflite": Case(
        model="resnet20",
        data="cifar10",
        image=32,
        format="tflite",
        recipe="quantize",
        code="resnet20.py:resnet20",
        options={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    ),
    # a student of two layers, started from two of the six that teach it
    "sst2-student": Case(student="bert-2-layers.json", recipe="distill", max_drop=0.05),
    # what must be undone: a scheme that this target is slow at, and pruning that prunes nothing
    "sst2-s8s8": Case(recipe="quantize", settings={"quantize.scheme": "s8s8"}),
    "sst2-prune-0": Case(settings={"prune.ratio": "0", "distill.max_steps": "50"}),
    # from limits to a recipe: the search, in a short box and a long one, and how far it goes when more may be lost
    "sst2-5m": Case(recipe=None, options={"time": 300.0}, goals=Goals(latency=4.0)),
    "sst2-60m": Case(
        recipe=None,
        options={"time": 3600.0},
        goals=Goals(latency=12.0, size=12.0, natural_lengths=7.0, fastest_peer=4.0),
    ),
    "sst2-60m-2-points": Case(recipe=None, max_drop=0.02, options={"time": 3600.0}),
    "sst2-60m-5-points": Case(recipe=None, max_drop=0.05, options={"time": 3600.0}),
}

# Cases that belong together: one model, data and target, whose artifacts are compared with those of other tools. The
# first is the one that a suite stands for: its operators are told, and it is timed at natural lengths.
SUITES: dict[str, tuple[str, ...]] = {"sst2": ("sst2-60m", "sst2-vnni")}
