"""Run a suite of compressions on real models, append each result to a file, and print the table.

    python benchmarks/run.py                     every case whose assets are here
    python benchmarks/run.py --case sst2-vnni    one of them

Assets are found by key: `benchmarks/assets.toml`, or below $EDGEKIT_ASSETS. A case that has its line in
`benchmarks/results/suite.jsonl` for the same code is not run again, so that a suite may span several sittings.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path

import edgekit
from edgekit.environment import code_digest

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "suite.jsonl"
# name: model, data, target
CASES = {
    "sst2-vnni": ("minilm-sst2", "sst2", "x86-64-vnni"),
    "sst2-arm64": ("minilm-sst2", "sst2", "arm64"),
}


def find_asset(key: str) -> str | None:
    """Where an asset is: below $EDGEKIT_ASSETS, else its hub id; None when it has to be made by its script first."""
    entry = tomllib.loads((HERE / "assets.toml").read_text(encoding="utf-8"))[key]
    root = os.environ.get("EDGEKIT_ASSETS")
    if root and (Path(root) / entry["path"]).exists():
        return str(Path(root) / entry["path"])
    return entry.get("hub")


def run_case(name: str) -> dict[str, object]:
    """Compress one case with the default recipe, and what of its report a table needs."""
    model, data, target = CASES[name]
    source, samples = find_asset(model), find_asset(data)
    if source is None or samples is None:
        raise SystemExit(f"{name}: the asset {model!r} or {data!r} is not here; see benchmarks/assets.toml")
    report = edgekit.compress(source, data=samples, target=target, max_drop=0.01, output=f"artifacts/{name}")
    quality = report.quality
    assert quality is not None
    return {
        "case": name,
        "code": code_digest(),
        "created": report.created,
        "host": report.host.processor,
        "versions": report.versions,
        "n": quality.n,
        "before": quality.before,
        "after": quality.after,
        "drop_low": quality.drop_low,
        "drop_high": quality.drop_high,
        "before_ms": report.original_latency_ms.p50,
        "after_ms": report.latency_ms.p50,
        "speedup": report.speedup,
        "before_bytes": report.value("size", before=True),
        "after_bytes": report.value("size"),
        "seconds": report.seconds,
        "ledger": [row.model_dump() for row in report.ledger],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    wanted = parser.parse_args().case or list(CASES)
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    known = [json.loads(line) for line in lines]
    done = {row["case"]: row for row in known if row["code"] == code_digest()}
    for name in wanted:
        if name not in done:
            done[name] = run_case(name)
            with RESULTS.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(done[name]) + "\n")
    print("case          before   after   x faster   x smaller   n")
    for name in wanted:
        row = done[name]
        faster = f"{row['speedup']:.2f}" if row["speedup"] else "not measured"
        smaller = float(str(row["before_bytes"])) / float(str(row["after_bytes"]))
        print(f"{name:12}  {row['before']:.4f}  {row['after']:.4f}  {faster:>9}  {smaller:>10.2f}  {row['n']}")


if __name__ == "__main__":
    sys.exit(main())
