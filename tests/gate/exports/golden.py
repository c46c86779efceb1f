"""Where the golden files are; run as a script, it writes them again, to be looked at before they are committed."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
ENDINGS = {
    "junit": "xml",
    "markdown": "md",
    "github-action-benchmark": "json",
    "github-action-benchmark-bigger": "json",
    "pytest-benchmark": "json",
    "google-benchmark": "json",
    "bencher": "json",
}
NAMES = tuple(ENDINGS)
FILES = {(kind, name): FOLDER / f"{kind}-{name}.{end}" for kind in ("gate", "alone") for name, end in ENDINGS.items()}


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from gate.records import alone, gate

    from edgekit.gate.exports import EXPORTS

    for (kind, name), file in FILES.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(EXPORTS[name].write(gate() if kind == "gate" else alone()), encoding="utf-8")


if __name__ == "__main__":
    main()
