"""Compress ONNX files of others on real images and speech, for this kind of processor and for arm64.

    python benchmarks/others.py                      every case whose assets are here
    python benchmarks/others.py --case silero-arm64  one of them

FastestDet (a detector) reads blood-cell images, resized to its 352 by 352 pixels; Silero (speech or none, recurrent)
reads spoken digits, brought from 8 to 16 kHz, as windows of 512 samples with 64 of context. Neither has labels for its
answers here: they are compared with the original's. A case that has its line in `results/others.jsonl` for the same
code is not run again.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lines import complete, origin
from PIL import Image
from run import find_asset

import edgekit

RESULTS = Path(__file__).parent / "results" / "others.jsonl"
TRAIN, VALIDATION = 64, 64
WINDOW, CONTEXT = 512, 64  # samples of sound at 16 kHz, as the authors' own wrapper feeds them
STEPS = 8  # windows of a recording


def images(source: Path) -> dict[str, Any]:
    """Pictures as FastestDet takes them: blue, green, red, from 0 to 1."""
    rows = []
    with tarfile.open(source / "images_640x480_jpeg.tar") as archive:
        for member in archive.getmembers()[: TRAIN + VALIDATION]:
            picture = archive.extractfile(member)
            assert picture is not None
            small = Image.open(picture).convert("RGB").resize((352, 352), Image.Resampling.BILINEAR)
            rows.append(np.asarray(small, np.float32)[:, :, ::-1].transpose(2, 0, 1) / 255)
    return {"input.1": np.stack(rows)}


def speech(source: Path) -> dict[str, Any]:
    """Spoken digits as Silero takes them: steps of a window with the end of the one before in front."""
    with np.load(source / "speakers_0_3.npz") as stored:
        sound, lengths = stored["audio"].astype(np.float32) / 2**15, stored["length"]
    ends = np.cumsum(lengths)
    chosen = np.linspace(0, len(lengths) - 1, TRAIN + VALIDATION).astype(int)
    rows = []
    for index in chosen:
        one = sound[ends[index] - lengths[index] : ends[index]]
        twice = np.interp(np.arange(2 * len(one)) / 2, np.arange(len(one)), one).astype(np.float32)
        padded = np.resize(np.concatenate([np.zeros(CONTEXT, np.float32), twice]), CONTEXT + STEPS * WINDOW)
        rows.append(np.stack([padded[step * WINDOW : (step + 1) * WINDOW + CONTEXT] for step in range(STEPS)]))
    return {"input": np.stack(rows), "sr": np.full(len(rows), 16000)}


# Name: the model, its data, what makes samples of it, the target, the length of an inference.
CASES: dict[str, tuple[str, str, Callable[[Path], dict[str, Any]], str, int | None]] = {
    "fastestdet-vnni": ("fastestdet", "bccd", images, "x86-64-vnni", None),
    "fastestdet-arm64": ("fastestdet", "bccd", images, "arm64", None),
    "silero-vnni": ("silero-vad", "fsdd", speech, "x86-64-vnni", WINDOW + CONTEXT),
    "silero-arm64": ("silero-vad", "fsdd", speech, "arm64", WINDOW + CONTEXT),
}


def write_data(samples: dict[str, Any], folder: Path) -> Path:
    """The first samples to calibrate on, the others to compare answers on."""
    folder.mkdir()
    np.savez(folder / "train.npz", **{name: values[:TRAIN] for name, values in samples.items()})
    np.savez(folder / "validation.npz", **{name: values[TRAIN:] for name, values in samples.items()})
    return folder


def run_case(name: str) -> dict[str, Any]:
    """One case in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return run(name, Path(folder))


def run(name: str, folder: Path) -> dict[str, Any]:
    """One case, and what of its report a table needs."""
    key, data, make, target, tokens = CASES[name]
    model, samples = find_asset(key), find_asset(data)
    if model is None or samples is None:
        raise SystemExit(f"{name}: {key if model is None else data} is not here; see benchmarks/assets.toml")
    report = edgekit.compress(
        model,
        data=write_data(make(Path(samples)), folder / name),
        target=target,
        workload=edgekit.Workload(tokens=tokens) if tokens else None,
        output=folder / f"{name}-out",
    )
    edgekit.verify(folder / f"{name}-out")
    quality = report.quality
    assert quality is not None
    return {
        **origin(name, report),
        "metric": quality.metric,
        "n": quality.n,
        "after": quality.after,
        "speedup": report.speedup,
        "before_bytes": report.value("size", before=True),
        "after_bytes": report.value("size"),
        "instructions": {count.device: count.instructions for count in report.counts_after},
        "instructions_before": {count.device: count.instructions for count in report.counts_before},
        "answers_there": {check.device: check.largest_difference for check in report.devices},
        "ledger": [row.model_dump(include={"stage", "kept", "reason"}) for row in report.ledger],
        "seconds": report.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    wanted = parser.parse_args().case or [
        name for name, (key, data, *_) in CASES.items() if find_asset(key) and find_asset(data)
    ]
    for row in complete(wanted, RESULTS, run_case):
        faster = f"{row['speedup']:.2f}x as fast" if row["speedup"] else ""
        cheaper = ", ".join(
            f"{row['instructions_before'][device] / count:.2f}x fewer instructions on {device}"
            for device, count in row["instructions"].items()
        )
        smaller = row["before_bytes"] / row["after_bytes"]
        what = f"{row['metric']} {row['after']:.4f} (n = {row['n']})"
        print(f"{row['case']}: {what}, {smaller:.2f}x smaller, {faster}{cheaper}")
        for entry in row["ledger"][1:]:
            print(f"    {entry['stage']}: {'kept' if entry['kept'] else 'undone'}: {entry['reason']}")


if __name__ == "__main__":
    main()
