"""Compress a model made to saturate for x86-64 with and without VNNI, and run the artifacts on an emulated Haswell.

    python benchmarks/saturation.py

Each case is `edgekit compress` of `models/saturating.py`. Weights of 8 bits, forced, lose nothing with VNNI and much
without: edgekit's simulation says so, and the emulator agrees sample by sample. Left alone, edgekit chooses other
weights, and with fall-back the layer that saturates stays float. Set-up of the emulator is made where it is missing
(`edgekit targets setup haswell`: Linux on x86-64, Debian's tools). The result goes to `results/saturation.jsonl`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lines import append
from models.saturating import samples

import edgekit
from edgekit.environment import code_digest, host, versions
from edgekit.source import sha256_file

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "saturation.jsonl"
TRAIN, VALIDATION = 512, 1000
EIGHT_BITS = {"quantize.scheme": "u8s8", "quantize.reduce_range": "never"}
# Name: target, settings.
CASES: dict[str, tuple[str, Mapping[str, str]]] = {
    "8 bits, VNNI": ("x86-64-vnni", EIGHT_BITS | {"quantize.fallback": "false"}),
    "8 bits": ("x86-64", EIGHT_BITS | {"quantize.fallback": "false"}),
    "8 bits, fall-back": ("x86-64", EIGHT_BITS),
    "edgekit's choice": ("x86-64", {}),
    "8 bits, static": ("x86-64", EIGHT_BITS | {"quantize.fallback": "false", "quantize.method": "static"}),
    "edgekit's choice, static": ("x86-64", {"quantize.method": "static"}),
}
# What counts as a visible loss, and as none, in shares of the metric.
VISIBLE, NONE = 0.1, 0.01


def write_data(folder: Path) -> Path:
    """Training and validation samples as parquet."""
    from datasets import Dataset

    folder.mkdir()
    for seed, (split, count) in enumerate((("train", TRAIN), ("validation", VALIDATION))):
        Dataset.from_dict(samples(count, seed)).to_parquet(folder / f"{split}.parquet")
    return folder


def run(target: str, settings: Mapping[str, str], data: Path, out: Path) -> dict[str, Any]:
    """One case: what edgekit says, and what the emulated processor answers."""
    report = edgekit.compress(
        f"{HERE / 'models' / 'saturating.py'}:saturating",
        data=data,
        target=target,
        recipe="quantize",
        settings=settings,
        max_drop=1.0,
        output=out,
    )
    details: Any = next(stage.details for stage in report.stages if stage.stage == "quantize")
    quality = report.quality
    assert quality is not None  # the data has labels
    return {
        "target": target,
        "settings": dict(settings),
        "n": quality.n,
        "before": quality.before,
        "after": quality.after,
        "drop": round(quality.drop, 6),
        "scheme": details["scheme"],
        "float_layers": details["fallback_layers"],
        "weights": details["weights"],
        "saturation": [one.model_dump() for one in report.saturation],
        "devices": [check.model_dump() for check in report.devices],
        "ledger": [row.model_dump(include={"stage", "kept", "reason"}) for row in report.ledger],
        "notes": list(report.notes),
        "size_bytes": report.artifact.size_bytes,
        "model": sha256_file(report.artifact.file()),
    }


def problems(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is not as the docstring says."""
    found = []
    for name, case in cases.items():
        lossy = name in ("8 bits", "8 bits, static")
        if lossy and case["drop"] < VISIBLE:
            found.append(f"{name}: only {case['drop']:.4f} lost")
        if not lossy and case["drop"] > NONE:
            found.append(f"{name}: {case['drop']:.4f} lost")
        if case["target"] == "x86-64" and not case["devices"]:
            found.append(f"{name}: not run on the emulated processor")
        found += [
            f"{name}: {check['agree']} of {check['n']} answers as on {check['device']}"
            for check in case["devices"]
            if check["agree"] != check["n"] or check["here"] != check["there"]
        ]
    if cases["8 bits"]["model"] != cases["8 bits, VNNI"]["model"]:
        found.append("the two artifacts of 8 bits are not the same file")
    return found


def line(name: str, case: Mapping[str, Any]) -> str:
    """A row of the table."""
    there = ", ".join(
        f"{check['there']:.3f} on {check['device']} ({check['agree']} of {check['n']} answers the same)"
        for check in case["devices"]
    )
    chosen = f"; {case['weights']['reason']}" if case["weights"] else ""
    return f"{name:26} {case['before']:.3f} -> {case['after']:.3f}  {there}{chosen}"


def main() -> None:
    subprocess.run([sys.executable, "-m", "edgekit", "targets", "setup", "haswell"], check=True)
    cases: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        data = write_data(Path(name) / "data")
        for number, (case, (target, settings)) in enumerate(CASES.items()):
            cases[case] = run(target, settings, data, Path(name) / f"out-{number}")
            print(line(case, cases[case]), flush=True)
    wrong = problems(cases)
    result = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_digest(),
        "host": host().processor,
        "versions": versions(),
        "cases": cases,
        "problems": wrong,
    }
    append(RESULTS, result)
    raise SystemExit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
