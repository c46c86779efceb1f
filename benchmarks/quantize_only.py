"""What the same small job costs with each tool: an ONNX file in, INT8 ONNX out, no data and nothing measured.

    python benchmarks/quantize_only.py                             edgekit, Olive and optimum, in turns
    python benchmarks/quantize_only.py --peers optimum --rounds 5
    python benchmarks/quantize_only.py --render                    the table of README.md from what was measured

The graph is the FP32 export of a suite's model, made once. Each tool gets its file, beside the model's configuration,
and runs the command of `quantize_only` in `peers/NAME.toml`, in the environment of `peers.py`, with empty caches, one
round after the other in an order that changes. Seconds are those of the command, memory is the largest of all its
processes together. edgekit is to take no more than half of either. A line of `results/quantize_only.jsonl` is one run.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from environments import EnvironmentFailed
from lines import append, latest
from page import put
from peer_recipes import Job, Peer, PeerFailed, Recipe, known_peers, now, reason, run_recipe
from peers import environment_of, job_of, place
from run import HERE, SUITES

from edgekit.environment import code_digest, host, versions
from edgekit.source import digest_files, model_files, sha256_file

RESULTS, README = HERE / "results" / "quantize_only.jsonl", HERE / "README.md"
OWN, ROUNDS = "edgekit", 3
MOST = 0.5  # of the seconds and of the memory of any other tool
NOTHING = "Not measured yet.\n"
EXPORT = Recipe(
    "export",
    "docs/commands.md",
    (
        "edgekit compress {model} --target {target} --recipe {peers}/recipes/fp32.toml --device none --quiet"
        " -o {out}/result",
    ),
    "result",
)


def graph_folder(job: Job, folder: Path) -> Path:
    """The FP32 export of a job's model with the model's configuration beside it, made once by this code.

    Raises:
        PeerFailed: it cannot be exported.
    """
    place = folder / f"graph-{digest_files(job.model, model_files(job.model))[:16]}-{code_digest()[:16]}"
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as made:
            run_recipe(known_peers()[OWN], EXPORT, job, Path(sys.executable).parent, Path(made))
            whole = Path(made) / "graph"
            whole.mkdir()
            for name in ("config.json", "model.onnx"):
                shutil.copyfile(Path(made) / "result" / name, whole / name)
            whole.rename(place)
    return place


def prepared(names: Sequence[str], job: Job, folder: Path) -> Iterator[tuple[Peer, Path, dict[str, Any]]]:
    """Each tool with its programs and the row that its rounds go into."""
    known = known_peers()
    for name in (OWN, *(name for name in names if name != OWN)):
        peer = known[name]
        (recipe,) = peer.quantize_only
        row: dict[str, Any] = {
            "peer": name,
            "title": peer.title,
            "documentation": recipe.documentation,
            "commands": list(recipe.commands),
            "seconds": [],
            "processor_seconds": [],
            "peak_memory_bytes": [],
            "error": "",
        }
        programs = Path(sys.executable).parent
        try:
            programs, row["versions"] = environment_of(peer, folder)
        except EnvironmentFailed as error:
            row["error"] = reason(f"no environment: {error}", job, folder, folder)
        yield peer, programs, row


def one_round(peer: Peer, programs: Path, row: dict[str, Any], job: Job, folder: Path) -> None:
    """Run a tool's job once in a folder of its own, and enter what it cost, or why it failed."""
    (recipe,) = peer.quantize_only
    with tempfile.TemporaryDirectory(dir=folder) as out:
        try:
            made = run_recipe(peer, recipe, job, programs, Path(out))
        except PeerFailed as error:
            row["error"] = reason(error, job, Path(out), folder)
            return
        row["seconds"].append(made["seconds"])
        row["processor_seconds"].append(sum(step["processor_seconds"] for step in made["steps"]))
        row["peak_memory_bytes"].append(made["peak_memory_bytes"])
        result = Path(made["result"])
        graph = result if result.is_file() else result / "model.onnx"
        row["size_bytes"], row["sha256"] = graph.stat().st_size, sha256_file(graph)
    print(f"{peer.title}: {made['seconds']:.1f} s, {made['peak_memory_bytes'] / 1e6:.0f} MB", flush=True)


def compare(suite: str, names: Sequence[str], folder: Path, rounds: int) -> dict[str, Any]:
    """A line of the results: every tool in turns."""
    folder.mkdir(parents=True, exist_ok=True)
    job = job_of(suite, folder)
    job = replace(job, graph=graph_folder(job, folder))
    tools = list(prepared(names, job, folder))
    for number in range(rounds):
        for peer, programs, row in tools[number % len(tools) :] + tools[: number % len(tools)]:
            if not row["error"]:
                one_round(peer, programs, row, job, folder)
    rows = [row for _, _, row in tools]
    return {
        "schema": "edgekit.quantize-only/1",
        "suite": suite,
        "created": now(),
        "code": code_digest(),
        "host": host().record,
        "versions": versions(),
        "target": job.target,
        "graph_bytes": (job.graph / "model.onnx").stat().st_size if job.graph else 0,
        "rounds": rounds,
        "rows": rows,
        "ratios": ratios(rows),
    }


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The medians of edgekit's seconds and memory over those of each other tool."""
    mine = rows[0]
    if mine["error"]:
        return {}
    return {
        row["peer"]: {
            kind: statistics.median(mine[kind]) / statistics.median(row[kind])
            for kind in ("seconds", "peak_memory_bytes")
        }
        for row in rows[1:]
        if not row["error"]
    }


def table(line: Mapping[str, Any]) -> str:
    """Each tool's medians, and what edgekit takes of them."""
    lines = ["| tool | seconds | peak, MB | edgekit takes of the seconds | of the memory |", "|---|--:|--:|--:|--:|"]
    for row in line["rows"]:
        if row["error"]:
            lines.append(f"| {row['title']} | fails: {row['error'].replace('|', '/')} | | | |")
            continue
        found = line["ratios"].get(row["peer"])
        shares = f"{found['seconds']:.2f} | {found['peak_memory_bytes']:.2f}" if found else " | "
        seconds, peak = (statistics.median(row[kind]) for kind in ("seconds", "peak_memory_bytes"))
        lines.append(f"| {row['title']} | {seconds:.1f} | {peak / 1e6:.0f} | {shares} |")
    host_ = line["host"]
    told = (
        f"An FP32 graph of {line['graph_bytes'] / 1e6:.0f} MB to INT8 for {line['target']}, median of {line['rounds']} "
        f"rounds in turns; measured {line['created'][:10]} on {host_['processor']} ({host_['cores']} cores)."
    )
    commands = [
        f"- **{row['title']}**, as in {linked(row['documentation'])}: `{command.format(**SHOWN)}`"
        for row in line["rows"]
        for command in row["commands"]
    ]
    return "\n".join([*lines, "", told, "", *commands, ""])


def linked(address: str) -> str:
    """A page of other documentation, or of this project's, as a link from README.md."""
    return f"<{address}>" if address.startswith("http") else f"[{address}](../{address})"


# How the places of a command are shown.
SHOWN = {"graph": "GRAPH", "out": "OUT", "target": "TARGET"}


def write(results: Path, readme: Path) -> None:
    """The last line of each suite in the page."""
    found = latest(results, "suite").values()
    put(readme, "quantize-only", "\n".join(map(table, found)) if found else NOTHING)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    able = [name for name, peer in known_peers().items() if peer.quantize_only and name != OWN]
    parser.add_argument("--suite", choices=list(SUITES), default="sst2")
    parser.add_argument("--peers", default=",".join(able), help=f"of {', '.join(able)}, separated by commas")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--folder", type=Path, default=place(), help="environments, as of peers.py")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    names = [name for name in asked.peers.split(",") if name]
    if unknown := [name for name in names if name not in able]:
        parser.error(f"no such job of {', '.join(unknown)}: {', '.join(able)}")
    if asked.render:
        write(RESULTS, README)
        return 0
    line = compare(asked.suite, names, asked.folder.resolve(), asked.rounds)
    append(RESULTS, line)
    write(RESULTS, README)
    print(table(line))
    failed = [row["title"] for row in line["rows"] if row["error"]]
    above = [name for name, found in line["ratios"].items() if max(found.values()) > MOST]
    for told in (
        f"failed: {', '.join(failed)}" if failed else "",
        f"more than half of: {', '.join(above)}" if above else "",
    ):
        if told:
            print(told, file=sys.stderr)
    return int(bool(failed or above))


if __name__ == "__main__":
    sys.exit(main())
