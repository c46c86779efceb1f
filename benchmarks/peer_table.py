"""The peers' tables of README.md and of the project's own page, from the lines of `results/peers.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lines import latest
from page import put

OWN = "edgekit"
BASELINE = "edgekit/FP32"
NOTHING = "Not measured yet."
# What a comparison at equal quality allows to lose, in points of the metric.
POINTS = 1.0
# How the places of a command are shown.
SHOWN = {"model": "MODEL", "data": "DATA", "texts": "TEXTS", "out": "OUT", "peers": "benchmarks/peers"}
HEAD = (
    "| tool | recipe | which is its | size, MB | {metric} | p50, ms | x FP32 | made in, s | peak, MB |",
    "|---|---|---|--:|--:|--:|--:|--:|--:|",
)
# What the project's page shows of edgekit, and of which suite; the fastest peer comes behind the first.
SHORT, SHORT_OF = (
    {
        "FP32": "FP32 ONNX",
        "quantize": "`edgekit compress --recipe quantize`",
        "sst2-60m": "`edgekit compress --max-drop 1% --time 60m`",
    },
    "sst2",
)

Row = Mapping[str, Any]


def best_peer(rows: Iterable[Row], *, least: float | None = None) -> Row | None:
    """The fastest INT8 artifact of a peer; with ``least``, of those whose quality is that at least."""
    known = [row for row in measured(rows) if row["peer"] != OWN and row["precision"] == "int8"]
    fit = [row for row in known if least is None or row["quality"] >= least]
    return min(fit, key=lambda row: row["p50_ms"], default=None)


def measured(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row["error"] and "p50_ms" in row]


def chosen(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """The rows of a table with what each is: all of edgekit's, each peer's fastest and most accurate, and failures."""
    for row in rows:
        if row["peer"] == OWN:
            yield row, ""
    for peer in dict.fromkeys(row["peer"] for row in rows if row["peer"] != OWN):
        of_peer = [row for row in rows if row["peer"] == peer]
        yield from ((row, "") for row in measured(of_peer) if row["precision"] != "int8")
        known = [row for row in measured(of_peer) if row["precision"] == "int8"]
        if known:
            fastest = min(known, key=lambda row: row["p50_ms"])
            # of equally accurate ones the faster
            most_accurate = max(known, key=lambda row: (row["quality"], -row["p50_ms"]))
            if fastest is most_accurate:
                yield fastest, "fastest, most accurate" if len(known) > 1 else "only one"
            else:
                yield fastest, "fastest"
                yield most_accurate, "most accurate"
        yield from ((row, "") for row in of_peer if row["error"])


def cells(row: Row, which: str) -> str:
    """One row of the table; what failed has its reason in place of figures."""
    if row["error"]:
        return f"| {row['title']} | {row['recipe']} | fails: {escaped(row['error'])} | | | | | | |"
    shares = row["metric"] in ("accuracy", "f1", "exact_match", "agreement")
    quality = f"{100 * row['quality']:.2f} %" if shares else f"{row['quality']:.4f}"
    return (
        f"| {row['title']} | {row['recipe']} | {which} | {row['size_bytes'] / 1e6:.1f} | {quality} "
        f"| {row['p50_ms']:.2f} | {faster(row)} | {number(row.get('seconds'))} "
        f"| {number(row.get('peak_memory_bytes'), 1e6)} |"
    )


def faster(row: Row) -> str:
    return f"{row['faster'][0]:.2f}" if "faster" in row else ""


def number(value: float | None, unit: float = 1.0) -> str:
    return "" if value is None else f"{value / unit:.0f}"


def escaped(text: str) -> str:
    """Text that a cell of a table can hold."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def ratios(rows: Sequence[Row]) -> Iterator[str]:
    """How edgekit's artifacts stand to the peers' fastest, with a 99 % interval, and to those that lose little."""
    best = best_peer(rows)
    if best is None:
        return
    base = next((row for row in measured(rows) if f"{row['peer']}/{row['recipe']}" == BASELINE), None)
    least = None if base is None else base["quality"] - POINTS / 100
    careful = best_peer(rows, least=least)
    for row in measured(rows):
        if row["peer"] != OWN or "faster_than_best_peer" not in row or row is base:
            continue
        ratio, low, high = row["faster_than_best_peer"]
        yield (
            f"The fastest artifact of a peer, {best['title']}'s {best['recipe']}, takes {ratio:.2f} times as long as "
            f"edgekit's {row['recipe']} [{low:.2f}, {high:.2f}]."
        )
        if careful is not None and careful is not best:
            yield (
                f"The fastest of those that lose at most {POINTS:.1f} point, {careful['title']}'s {careful['recipe']}, "
                f"takes {careful['p50_ms'] / row['p50_ms']:.2f} times as long as it."
            )


def costs(rows: Sequence[Row]) -> str:
    """What the same job costs with each tool, by its quickest recipe: from a transformers folder to INT8."""
    made = [row for row in measured(rows) if row["commands"] and row["precision"] == "int8"]
    quickest: dict[str, Row] = {}
    for row in sorted(made, key=lambda row: row["seconds"]):
        quickest.setdefault(row["peer"], row)
    told = ", ".join(
        f"{row['title']}'s {row['recipe']} {row['seconds']:.0f} s and {row['peak_memory_bytes'] / 1e6:.0f} MB"
        for row in quickest.values()
    )
    return f"From the model's folder to INT8 without training, the quickest recipe of each: {told}." if told else ""


def commands(rows: Sequence[Row]) -> Iterator[str]:
    """Each recipe with its documentation and its commands, under the versions of its environment."""
    for peer in dict.fromkeys(row["peer"] for row in rows if row["commands"]):
        of_peer = [row for row in rows if row["peer"] == peer and row["commands"]]
        found = ", ".join(f"{name} {version}" for name, version in of_peer[0]["versions"].items())
        yield f"**{of_peer[0]['title']}** ({found or 'no environment'})\n"
        for row in of_peer:
            address = row["documentation"]
            link = address if address.startswith("http") else f"../{address}"
            yield (
                f"- {row['recipe']}, as in <{link}>:"
                if link == address
                else f"- {row['recipe']}, as in [{address}]({link}):"
            )
            yield from (f"  `{command.format(**SHOWN, task='TASK', target='TARGET')}`" for command in row["commands"])
        yield ""


def table(line: Mapping[str, Any]) -> str:
    """A suite's table: figures, ratios, commands, and what they were measured on."""
    rows = line["rows"]
    known = measured(rows)
    metric = known[0]["metric"] if known else "quality"
    host, work = line["host"], line["workload"]
    parts = [
        f"### {line['suite']}, for {line['target']}\n",
        HEAD[0].format(metric=metric),
        HEAD[1],
        *(cells(row, which) for row, which in chosen(rows)),
        "",
        *ratios(rows),
        "",
        costs(rows),
        "",
        f"Measured {line['created'][:10]} on {host['processor']} ({host['cores']} cores, {host['system']}), "
        f"ONNX Runtime {line['versions']['onnxruntime']}, {line['protocol']['threads']} thread, batch {work['batch']}, "
        f"{work['tokens']} tokens"
        + (f", {known[0]['metric']} on {known[0]['n']} samples of {known[0]['split']}" if known else "")
        + "."
        + "".join(f" {warning}." for warning in line["warnings"]),
        "",
        *commands(rows),
    ]
    return "\n".join(parts).rstrip() + "\n"


def short(line: Mapping[str, Any]) -> str:
    """The few rows of a suite that the project's page shows, and what they were measured on."""
    rows, best = line["rows"], best_peer(line["rows"])
    own = {row["recipe"]: row for row in measured(rows) if row["peer"] == OWN}
    shown = [(name, own[recipe]) for recipe, name in SHORT.items() if recipe in own]
    if best is not None:
        others = len({row["peer"] for row in rows if row["peer"] != OWN})
        shown.insert(1, (f"the fastest of {others} other tools, {best['title']}'s {best['recipe']} INT8", best))
    host, work = line["host"], line["workload"]
    told = (
        f"ONNX Runtime {line['versions']['onnxruntime']}, {line['protocol']['threads']} thread, batch {work['batch']}, "
        f"{work['tokens']} tokens, {host['processor']} ({host['cores']} cores), measured {line['created'][:10]}."
    )
    return "\n".join(
        [
            "| artifact | p50 | than FP32 | size | accuracy |",
            "|---|--:|--:|--:|--:|",
            *(
                f"| {name} | {row['p50_ms']:.3g} ms | {'' if row is own.get('FP32') else faster(row) + 'x faster'} "
                f"| {row['size_bytes'] / 1e6:.1f} MB | {100 * row['quality']:.1f} % |"
                for name, row in shown
            ),
            "",
            told,
            *(f"{warning[0].upper()}{warning[1:]}." for warning in line["warnings"]),
            "",
        ]
    )


def render(lines: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(table(line) for line in lines) if lines else f"{NOTHING}\n"


def write_table(results: Path, readme: Path, front: Path) -> None:
    """Put the tables between the marks of a page, and the short one between those of the project's page."""
    last = latest(results, "suite")
    put(readme, "peers", render(list(last.values())))
    put(front, "peers", short(last[SHORT_OF]) if SHORT_OF in last else f"{NOTHING}\n")
