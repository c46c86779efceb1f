"""Time the page of a web bundle in Chromium without a window, each time opened by a browser that has seen nothing yet.

    python benchmarks/web_page.py BUNDLE              after its `npm run build`; five browsers, one after the other
    python benchmarks/web_page.py BUNDLE --opens 1

The figures are the page's own: its first answer counts from opening the page, with the runtime and the model to load
and to compile, then each of 20 answers is timed, and the self-test runs. One line goes to `results/web_page.jsonl`. The
exit code is 1 where a self-test found something, where anything was asked of another origin, or where a model of at
most 10 MB took more than 5 s for its first answer in the middle of the openings. The machine should be idle: `load` is
how many processes wanted its processors in the minute before, the browser's own among them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lines import append

from edgekit.devices.browser import served
from edgekit.devices.chromium import Chromium, find_chromium
from edgekit.environment import code_digest, host

RESULTS = Path(__file__).parent / "results" / "web_page.jsonl"
SECONDS = 600
RECORD = "globalThis.edgekitRecord"
ENDED = f"{RECORD}?.answers_ms && {RECORD}.problems !== undefined"
LARGEST_BYTES, LONGEST_MS = 10_000_000, 5_000


def opened(site: Path, executable: str) -> dict[str, Any]:
    """What the page recorded in a new browser, its version, and what was asked of other origins."""
    with Chromium(executable) as browser, served(site) as address:
        browser.open(f"{address}/")
        browser.wait_for(ENDED, SECONDS)
        record: dict[str, Any] = browser.evaluate(RECORD)
        asked = [one["params"] for one in browser.events if one["method"] == "Network.requestWillBeSent"]
        elsewhere = [one["request"]["url"] for one in asked if not one["request"]["url"].startswith(f"{address}/")]
        return record | {"browser": browser.version, "elsewhere": elsewhere, "load": os.getloadavg()[0]}


def line_of(bundle: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of the results."""
    told = json.loads((bundle / "public/bundle/bundle.json").read_text(encoding="utf-8"))
    last = records[-1]
    return {
        "schema": "edgekit.web-page/1",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": code_digest(),
        "host": host().record,
        "browser": last["browser"],
        "name": told["name"],
        "target": told["target"],
        "form": told["model"]["forms"][0]["format"],
        "model_bytes": last["model_bytes"],
        "engine": last["engine"],
        "threads": last["threads"],
        "first_answer_ms": [round(record["first_answer_ms"], 1) for record in records],
        "load": [round(record["load"], 1) for record in records],
        "answer_ms": [round(statistics.median(record["answers_ms"]), 2) for record in records],
        "problems": sorted({problem for record in records for problem in record["problems"]}),
        "elsewhere": sorted({url for record in records for url in record["elsewhere"]}),
    }


def failures(line: dict[str, Any]) -> list[str]:
    """What of a line is not as it has to be."""
    first = statistics.median(line["first_answer_ms"])
    slow = [f"the first answer took {first / 1e3:.1f} s"] if first > LONGEST_MS else []
    return [*line["problems"], *line["elsewhere"], *(slow if line["model_bytes"] <= LARGEST_BYTES else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--opens", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        raise SystemExit("Chromium is not installed")
    line = line_of(asked.bundle, [opened(asked.bundle / "public", executable) for _ in range(asked.opens)])
    append(asked.results, line)
    first, answer = (statistics.median(line[name]) for name in ("first_answer_ms", "answer_ms"))
    print(f"{line['name']}, {line['model_bytes'] / 1e6:.2f} MB, {line['threads']} threads, {line['browser']}:")
    loaded = f"load {min(line['load'])} to {max(line['load'])}"
    print(f"first answer {first / 1e3:.2f} s (middle of {asked.opens}), one answer {answer:.1f} ms, {loaded}")
    wrong = failures(line)
    print("\n".join(wrong) or "self-test passed; nothing was asked of another origin")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
