"""Make INT8 artifacts with other tools, measure them beside edgekit's in one run, and write the table.

    python benchmarks/peers.py --suite sst2                            every peer
    python benchmarks/peers.py --suite sst2 --peers olive,optimum      some of them
    python benchmarks/peers.py --check                                 their environments, and no more
    python benchmarks/peers.py --render                                the tables of both README.md from the results

A peer is a file of `benchmarks/peers/`: its recipes as its documentation has them, from a transformers folder to an
ONNX file, and beside it the packages of its environment, which is made once. Each command is timed by its process. What
came out is scored by the same code and timed interleaved, with edgekit's artifacts and the FP32 export, in one process.
What fails is a row with its reason. The exit code is 1 where no peer has an INT8 artifact, or where edgekit's is not as
many times faster than the fastest of them as is its goal (`cases.py`). What was made by the same recipe, packages,
model and texts is not made again (`--again` makes it again, so that its seconds are measured anew).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from environments import EnvironmentFailed, installed, make_environment
from lines import append, latest
from peer_recipes import Job, Peer, PeerFailed, Recipe, known_peers, make, now, reason
from peer_table import BASELINE, OWN, best_peer, render, write_table
from run import ARTIFACTS, CASES, HERE, SUITES, asset, find_copy, shortfall

import edgekit
from edgekit.artifact import WHOLE, Artifact, Manifest, is_artifact, open_artifact, write_artifact
from edgekit.environment import code_digest, host, versions
from edgekit.formats.onnx import describe_component
from edgekit.measure.latency import Timings, subjects_of, time_all
from edgekit.runtimes import open_runner
from edgekit.runtimes.measuring import Timing, here
from edgekit.source import digest_files, model_files, sha256_file
from edgekit.tasks import bind_task
from edgekit.tasks.base import Task, TaskOptions, Workload
from edgekit.tasks.data import Data
from edgekit.tasks.data_source import resolve_data

RESULTS = HERE / "results" / "peers.jsonl"
README, FRONT = HERE / "README.md", HERE.parent / "README.md"
SCHEMA = "edgekit.peers/1"
# Environments and artifacts of peers lie here, unless the variable or --folder names another place.
PLACE, PLACE_VARIABLE = HERE / ".peers", "EDGEKIT_PEERS"
TEXTS = 128
TIMING, WORKLOAD = Timing(), Workload()


def write_texts(job_data: Path, task: Task, file: Path) -> None:
    """Sentences of the training split, evenly spread, one a line."""
    data = Data(resolve_data(job_data), task, seed=0)
    rows = data.raw[data.train_source]
    column = next(name for name in task.columns["text"] if name in rows.column_names)
    step = max(1, len(rows) // TEXTS)
    chosen = [" ".join(str(rows[index][column]).split()) for index in range(0, len(rows), step)][:TEXTS]
    file.write_text("".join(f"{line}\n" for line in chosen), encoding="utf-8")


def as_artifact(result: Path, job: Job, folder: Path) -> Artifact:
    """What a recipe left as edgekit reads it: a graph of others gets the model's tokenizer beside it."""
    if is_artifact(result):
        return open_artifact(result)
    weights = {".safetensors", ".bin", ".onnx"}
    folder.mkdir(parents=True)
    for file in model_files(job.model):
        if file.suffix not in weights:
            shutil.copyfile(file, folder / file.name)
    part = describe_component(result)
    for name in part.files:
        shutil.copyfile(result.parent / name, folder / name)
    source: dict[str, str | None] = {"name": job.model.name}
    return write_artifact(folder, Manifest(format="onnx", task=job.task, source=source, components={WHOLE: part}))


def check_running(artifact: Artifact, task: Task) -> None:
    """One inference of what will be timed.

    Raises:
        PeerFailed: it takes or gives something else than the model does.
        EdgekitError: it does not load or run.
    """
    feeds = task.workload_feeds(WORKLOAD)[WHOLE]
    part = artifact.manifest.components[WHOLE]
    takes, gives = {spec.name for spec in part.inputs}, [spec.name for spec in part.outputs]
    if takes != feeds.keys():
        raise PeerFailed(f"the graph takes {', '.join(sorted(takes))} in place of {', '.join(sorted(feeds))}")
    if "logits" not in gives:
        raise PeerFailed(f"the graph gives {', '.join(gives)} and no logits")
    open_runner(artifact).run(WHOLE, feeds)


def score(artifact: Artifact, job: Job) -> dict[str, Any]:
    """Size and quality of an artifact that runs."""
    check_running(artifact, bind_task(job.task, artifact.path, TaskOptions()))
    scored = edgekit.evaluate(artifact.path, job.data)
    metric = scored.metrics[0]
    graph = artifact.file()
    return {
        "size_bytes": artifact.size_bytes,
        "sha256": sha256_file(graph),
        "metric": metric.name,
        "quality": metric.value,
        "n": metric.n,
        "split": scored.data["split"],
    }


def timed(rows: Sequence[dict[str, Any]], artifacts: Mapping[str, Artifact], job: Job) -> Timings:
    """Time all artifacts interleaved in one process, and leave in each row what came of it."""
    subjects = {}
    for name, artifact in artifacts.items():
        subjects[name] = subjects_of(artifact, bind_task(job.task, artifact.path, TaskOptions()), WORKLOAD)[WHOLE]
    timings = time_all(subjects, here(1), TIMING)
    for row in rows:
        name = row_name(row)
        if name not in artifacts:
            continue
        row["latency"] = [one.model_dump() for one in timings.measurements(name, WHOLE)]
        row["p50_ms"] = timings.p50(name)
        if BASELINE in artifacts:
            ratio, interval = timings.slowdown(BASELINE, name)
            row["faster"] = [ratio, interval.low, interval.high]
    return timings


def row_name(row: Mapping[str, Any]) -> str:
    return f"{row['peer']}/{row['recipe']}"


def peer_rows(peer: Peer, job: Job, folder: Path, *, again: bool) -> Iterator[dict[str, Any]]:
    """A row for each recipe of a peer: what it left and what that cost, or why it left nothing."""
    try:
        programs, found = environment_of(peer, folder)
    except EnvironmentFailed as error:
        for recipe in peer.recipes:
            told = reason(f"no environment: {error}", job, folder / "made", folder)
            yield base_row(peer, recipe, {}) | {"error": told}
        return
    for recipe in peer.recipes:
        row = base_row(peer, recipe, found)
        try:
            row |= make(peer, recipe, job, programs, folder / "made", again=again)
        except PeerFailed as error:
            row["error"] = reason(error, job, folder / "made", folder)
        yield row


def environment_of(peer: Peer, folder: Path) -> tuple[Path, dict[str, str]]:
    """The programs of a peer, and the versions of its packages.

    Raises:
        EnvironmentFailed: its environment cannot be made.
    """
    programs = Path(sys.executable).parent
    if peer.pins is not None:
        programs = make_environment(peer.pins, folder / "environments" / peer.key)
    return programs, installed(programs, peer.packages)


def ready(suite: str, peers: Sequence[str], folder: Path) -> bool:
    """Whether any peer has an environment; those without are told. A suite without its assets ends the program."""
    job_of(suite, folder)
    others, without = [known_peers()[key] for key in peers if key != OWN], 0
    for peer in others:
        try:
            environment_of(peer, folder)
        except EnvironmentFailed as error:
            print(f"{peer.title}: no environment: {error}", file=sys.stderr)
            without += 1
    return without < len(others) or not others


def base_row(peer: Peer, recipe: Recipe, found: Mapping[str, str]) -> dict[str, Any]:
    return {
        "peer": peer.key,
        "title": peer.title,
        "recipe": recipe.name,
        "precision": recipe.precision,
        "documentation": recipe.documentation,
        "commands": list(recipe.commands),
        "versions": dict(found),
        "error": "",
    }


def artifact_rows(artifacts: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """A row for each of edgekit's artifacts, which a run of the suite has left."""
    for name, path in artifacts.items():
        row = base_row(Peer(OWN, "edgekit", (), ()), Recipe(name, "docs", (), ""), {})
        if is_artifact(path):
            report = path / "report.json"
            seconds = json.loads(report.read_text(encoding="utf-8"))["seconds"] if report.is_file() else None
            yield row | {"result": str(path), "seconds": seconds}
        else:
            yield row | {"error": f"there is no artifact: python benchmarks/run.py --case {name}"}


def job_of(suite: str, folder: Path) -> Job:
    """A suite's model, data and target, which every tool is given."""
    case = CASES[SUITES[suite][0]]
    model, data = find_copy(case.model), find_copy(case.data)
    if model is None or data is None:
        absent = case.model if model is None else case.data
        raise SystemExit(f"{absent} is not here, and other tools get no hub: see `path` in benchmarks/assets.toml")
    kind = asset(case.model)["task"]
    return Job(Path(model).resolve(), Path(data).resolve(), folder / f"{suite}-texts.txt", kind, case.target)


def compare(
    suite: str,
    peers: Sequence[str],
    artifacts: Mapping[str, Path],
    folder: Path,
    *,
    again: bool = False,
    results: Path = RESULTS,
) -> dict[str, Any]:
    """Everything of a suite in one run, appended to the results as one line."""
    folder.mkdir(parents=True, exist_ok=True)
    job = job_of(suite, folder)
    write_texts(job.data, bind_task(job.task, job.model, TaskOptions()), job.texts)
    known = known_peers()
    rows = list(artifact_rows(artifacts))
    for key in (OWN, *(peer for peer in peers if peer != OWN)):
        for row in peer_rows(known[key], job, folder, again=again):
            told = row["error"] or "made in {seconds:.1f} s".format(**row)
            print(f"{row_name(row)}: {told}", flush=True)
            rows.append(row)
    line = measure(rows, job, folder / "read") | {"suite": suite, "target": job.target}
    append(results, line)
    return line


def measure(rows: list[dict[str, Any]], job: Job, folder: Path) -> dict[str, Any]:
    """Score every result, then time those that run; a line of the results."""
    shutil.rmtree(folder, ignore_errors=True)
    running: dict[str, Artifact] = {}
    for number, row in enumerate(rows):
        if row["error"]:
            continue
        try:
            artifact = as_artifact(Path(row.pop("result")), job, folder / str(number))
            row.update(score(artifact, job))
        except (PeerFailed, edgekit.EdgekitError, OSError) as error:  # a file that its graph names may not be there
            row["error"] = reason(f"what it left does not run: {error}", job, folder, folder.parent)
            continue
        running[row_name(row)] = artifact
        print(f"{row_name(row)}: {row['metric']} {row['quality']:.4f} (n = {row['n']})", flush=True)
    timings = timed(rows, running, job)
    best = best_peer(rows)
    for row in rows:
        if best is not None and row["peer"] == OWN and row_name(row) in running:
            ratio, interval = timings.slowdown(row_name(best), row_name(row))
            row["faster_than_best_peer"] = [ratio, interval.low, interval.high]
    return {
        "schema": SCHEMA,
        "created": now(),
        "code": code_digest(),
        "host": host().record,
        "versions": versions(),
        "model": digest_files(job.model, model_files(job.model)),
        "data": resolve_data(job.data).record,
        "workload": WORKLOAD.model_dump(),
        "protocol": {**vars(TIMING), "threads": 1, "clock": timings.clock},
        "warnings": list(timings.warnings),
        "rows": rows,
    }


def place() -> Path:
    """Where environments and artifacts of peers lie."""
    return Path(os.environ.get(PLACE_VARIABLE) or PLACE)


def peer_names(text: str) -> list[str]:
    """Names of peers, separated by commas."""
    names, known = [name.strip() for name in text.split(",") if name.strip()], known_peers()
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"there is no peer {unknown[0]!r}: {', '.join(known)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=list(SUITES), default="sst2")
    parser.add_argument("--peers", type=peer_names, default=list(known_peers()), help="names, separated by commas")
    parser.add_argument("--artifact", type=Path, action="append", help="edgekit's, in place of the suite's; repeatable")
    parser.add_argument("--folder", type=Path, default=place(), help=f"environments and artifacts (${PLACE_VARIABLE})")
    parser.add_argument("--results", type=Path, default=RESULTS, help="for another file the table is printed")
    parser.add_argument("--again", action="store_true", help="make what was made before, too")
    parser.add_argument("--check", action="store_true", help="make their environments, tell what is missing, no more")
    parser.add_argument("--render", action="store_true", help="write the tables of what was measured, and no more")
    asked, missed = parser.parse_args(), list[str]()
    if asked.check:
        return int(not ready(asked.suite, asked.peers, asked.folder.resolve()))
    if not asked.render:
        given = asked.artifact or [ARTIFACTS / name for name in SUITES[asked.suite]]
        artifacts = {path.name: path.resolve() for path in given}
        if len(artifacts) < len(given):
            parser.error("two artifacts have the same name")
        folder = asked.folder.resolve()
        line = compare(asked.suite, asked.peers, artifacts, folder, again=asked.again, results=asked.results)
        missed = [] if set(asked.peers) == {OWN} else missed_by(line["rows"])
    if asked.results == RESULTS:
        write_table(RESULTS, README, FRONT)
    else:
        print(render(list(latest(asked.results, "suite").values())))
    if missed:
        print("\n".join(missed), file=sys.stderr)
    return int(bool(missed))


def missed_by(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a comparison with peers was to have, and has not: an INT8 artifact of one of them, and cases' goals."""
    if best_peer(rows) is None:
        return ["no INT8 artifact of a peer was measured"]
    found = [
        shortfall(
            f"{row['recipe']}, beside the fastest peer",
            row["faster_than_best_peer"][0] if "faster_than_best_peer" in row else None,
            CASES[row["recipe"]].goals.fastest_peer,
        )
        for row in rows
        if row["peer"] == OWN and row["recipe"] in CASES
    ]
    return [f"missed: {short}" for short in found if short]


if __name__ == "__main__":
    sys.exit(main())
