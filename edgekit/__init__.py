"""edgekit takes a fine-tuned model to the smallest, fastest artifact that still answers as well, for one named device.

    import edgekit

    report = edgekit.compress("model-folder", data="data-folder", target="arm64", max_drop=0.01)
    edgekit.load(report.artifact.path).predict("a sentence")

Importing the package imports no framework; each name below is loaded when it is first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.api import compress, costs, evaluate, load, load_pruned, sign, verify
    from edgekit.artifact import Artifact
    from edgekit.attestation import attest
    from edgekit.benching import bench
    from edgekit.bundle.build import make_bundle
    from edgekit.bundle.check import check_bundle
    from edgekit.description import Feeding
    from edgekit.errors import EdgekitError
    from edgekit.inspection import inspect
    from edgekit.inspection.records import InspectRecord
    from edgekit.planning import plan
    from edgekit.profiling import profile
    from edgekit.recipe import Recipe, load_recipe
    from edgekit.report import Report, load_report
    from edgekit.reporting import compare, render_report
    from edgekit.request import RunOptions
    from edgekit.source import Source
    from edgekit.target import Target, load_target
    from edgekit.tasks.base import Task, Workload

__version__ = "0.1.0"

# Nothing is reported to anybody: since 1.32 ONNX Runtime's Linux build writes down events of its use, in a thread that
# runs beside whatever is measured, for its maker's server. Who sets the variable keeps what they set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "Artifact": "edgekit.artifact",
    "EdgekitError": "edgekit.errors",
    "Feeding": "edgekit.description",
    "InspectRecord": "edgekit.inspection.records",
    "Recipe": "edgekit.recipe",
    "Report": "edgekit.report",
    "RunOptions": "edgekit.request",
    "Source": "edgekit.source",
    "Target": "edgekit.target",
    "Task": "edgekit.tasks.base",
    "Workload": "edgekit.tasks.base",
    "attest": "edgekit.attestation",
    "bench": "edgekit.benching",
    "check_bundle": "edgekit.bundle.check",
    "compare": "edgekit.reporting",
    "compress": "edgekit.api",
    "costs": "edgekit.api",
    "evaluate": "edgekit.api",
    "inspect": "edgekit.inspection",
    "load": "edgekit.api",
    "load_pruned": "edgekit.api",
    "load_recipe": "edgekit.recipe",
    "load_report": "edgekit.report",
    "load_target": "edgekit.target",
    "make_bundle": "edgekit.bundle.build",
    "plan": "edgekit.planning",
    "profile": "edgekit.profiling",
    "render_report": "edgekit.reporting",
    "sign": "edgekit.api",
    "verify": "edgekit.api",
}

__all__ = [
    "Artifact",
    "EdgekitError",
    "Feeding",
    "InspectRecord",
    "Recipe",
    "Report",
    "RunOptions",
    "Source",
    "Target",
    "Task",
    "Workload",
    "attest",
    "bench",
    "check_bundle",
    "compare",
    "compress",
    "costs",
    "evaluate",
    "inspect",
    "load",
    "load_pruned",
    "load_recipe",
    "load_report",
    "load_target",
    "make_bundle",
    "plan",
    "profile",
    "render_report",
    "sign",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
