"""What the stages say of their own work, in a line each: what pruning left, which rewrites pay, what is INT8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from pydantic import JsonValue

from edgekit.report import MEGABYTE, Report, StageReport

Details = Mapping[str, JsonValue]
# Nodes that are named; the report has them all.
NAMED_NODES = 5
# What methods of quantization are called that are not INT8.
METHODS = {"fp16": "FP16", "int4": "INT4, weights only"}


def stage_lines(report: Report) -> Iterator[tuple[str, str]]:
    """Pairs of a stage and its sentence, for stages that were kept and have something to say."""
    undone = {row.stage for row in report.ledger if not row.kept}
    for stage in report.stages:
        describe = DESCRIPTIONS.get(stage.stage)
        line = describe(stage.details) if describe and stage.stage not in undone else ""
        if line:
            yield stage.stage, line


def row_lines(report: Report) -> list[str]:
    """The sentence of each stage of the ledger, row by row; empty for one that was undone or has nothing to say.

    A stage that ran twice has a sentence for each time.
    """
    told: dict[str, Iterator[StageReport]] = {
        row.stage: iter([stage for stage in report.stages if stage.stage == row.stage]) for row in report.ledger
    }
    lines = []
    for row in report.ledger[1:]:
        stage, describe = next(told[row.stage], None), DESCRIPTIONS.get(row.stage)
        lines.append(describe(stage.details) if stage is not None and describe is not None and row.kept else "")
    return lines


def _prune(details: Details) -> str:
    """What is left: ``3 of 6 layers; heads 6 4 5 of 12; neurons 384 each of 1536``, or ``410 of 512 channels``.

    Of an encoder whose hidden size was pruned, also ``hidden size 256 of 384``; of one that leaves tokens out,
    ``tokens 63 % 40 % 25 %``.
    """
    before, kept = details.get("before"), details.get("kept")
    layers = [layer for layer in kept if isinstance(layer, dict)] if isinstance(kept, list) else []
    if not layers:
        return ""
    if isinstance(before, dict):
        whole = "the encoder's"
        parts = [f"{len(layers)} of {before['layers']} layers"]
        if hidden := hidden_size(details):
            parts.append(f"hidden size {hidden}")
        if tokens := token_shares(details):
            parts.append(f"tokens {tokens}")
        for name in ("heads", "neurons"):
            of = _each([layer.get(f"{name}_of", before[name]) for layer in layers]).removesuffix(" each")
            parts.append(f"{name} {_each([layer[name] for layer in layers])} of {of}")
    else:
        whole = "the"
        left, total = (sum(number(layer.get(name)) for layer in layers) for name in ("channels", "of"))
        parts = [f"{left:g} of {total:g} channels"]
    if number(details.get("macs_before")):
        share = number(details.get("macs_after")) / number(details.get("macs_before"))
        asked = number(details.get("macs_asked")) / number(details.get("macs_before"))
        told = f", where {asked:.0%} was asked for" if "macs_asked" in details else ""
        parts.append(f"{share:.0%} of {whole} multiply-accumulates{told}")
    predicted = details.get("predicted")
    if isinstance(predicted, dict):
        before, after = (f"{number(predicted.get(name)):.3g}" for name in ("before", "after"))
        parts.append(f"predicted {after} of {before} {predicted.get('unit')}")
    return "; ".join(parts)


def hidden_size(details: Details) -> str:
    """``256 of 384``: columns of an encoder's stream; empty where none of them was pruned."""
    left, of = number(details.get("hidden")), number(details.get("hidden_of"))
    return f"{left:g} of {of:g}" if left else ""


def token_shares(details: Details) -> str:
    """``63 % 40 % 25 %``: of a sample's tokens, what each layer but the last hands on; empty where nobody asked."""
    found = details.get("tokens")
    return shares([number(share) for share in found]) or "100 %" if isinstance(found, list) else ""


def shares(values: Iterable[float]) -> str:
    """``63 % 40 % 25 %``, to a tenth of a percent where there is one."""
    return " ".join(f"{100 * value:.3g} %" for value in values)


def _vocabulary(details: Details) -> str:
    """What is left: ``9000 of 30522 tokens; 7400 in use, the rest for what is written in pieces``."""
    before, after, used = (number(details.get(name)) for name in ("tokens_before", "tokens_after", "used"))
    return (
        ""
        if not before
        else f"{after:g} of {before:g} tokens; {used:g} in use, the rest to write other words in pieces"
    )


def number(value: JsonValue) -> float:
    """A figure of a stage's details; 0 where there is none."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _optimize(details: Details) -> str:
    """The rewrites that stayed, and those that were tried and did not pay."""
    kept: dict[str, None] = {}
    left: dict[str, None] = {}
    for table in details.values():
        rows = table.get("rewrites") if isinstance(table, dict) else None
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and row.get("nodes"):
                (kept if row.get("kept") else left)[str(row.get("rewrite"))] = None
    parts = [f"rewrites: {', '.join(kept)}"] if kept else []
    return "; ".join([*parts, f"did not pay: {', '.join(left)}"] if left else parts)


def _quantize(details: Details) -> str:
    """How many layers are quantized and how, which stayed in float, and which engine was not used."""
    scheme, layers, fallbacks = details.get("scheme"), details.get("layers"), details.get("fallback_layers")
    if not isinstance(scheme, dict) or not isinstance(layers, int):
        return ""
    method = METHODS.get(str(scheme.get("method"))) or f"INT8, {scheme.get('method')}"
    fallen = [str(name) for name in fallbacks] if isinstance(fallbacks, list) else []
    unasked = float_layers(details)
    small = layers - len(fallen) - sum(map(len, unasked.values()))
    line = f"{small} of {layers} layers in {method}" if small < layers else f"all {layers} layers in {method}"
    if fallen:
        line += f"; in float: {', '.join(fallen)}"
    for reason, names in unasked.items():
        line += f"; {len(names)} in float, since {reason}: {shortened(names)}"
    weights = details.get("weights")
    if isinstance(weights, dict):
        line += f"; weights of {weights.get('chosen')}"
    left = [str(details["left_float"])] if "left_float" in details else []
    more = (*rescaled_lines(details), *table_lines(details), *left, *overflow_lines(details), *engine_lines(details))
    return "; ".join([line, *more])


def rescaled_lines(details: Details) -> list[str]:
    """What was smoothed or equalized before, and what could not be, where that was asked for."""
    lines = list[str]()
    pairs, smoothed = details.get("equalized"), details.get("smoothed")
    if isinstance(pairs, list):
        many = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''} of convolutions equalized"
        lines.append(many if pairs else "no pair of convolutions to equalize")
    if isinstance(smoothed, dict):
        done, left = (found if isinstance(found := smoothed.get(key), list) else [] for key in ("layers", "left"))
        lines.append(f"{len(done)} layer{'s' if len(done) != 1 else ''} smoothed")
        if left:
            lines.append(f"{len(left)} not, since {smoothed.get('because')}: {shortened([str(name) for name in left])}")
    return lines


def table_lines(details: Details) -> list[str]:
    """Which tables of words are INT4, and which lost too much so, where that was asked for."""
    tables = details.get("tables")
    if not isinstance(tables, dict):
        return []
    told = {"int4": "tables in INT4", "int8": "tables in INT8, since they lose too much in INT4"}
    names = {key: [str(name) for name in found] for key in told if isinstance(found := tables.get(key), list) and found}
    return [f"{told[key]}: {shortened(found)}" for key, found in names.items()]


def float_layers(details: Details) -> dict[str, list[str]]:
    """The layers that a quantizer left in float unasked, by the reason."""
    found: dict[str, list[str]] = {}
    left = details.get("float_layers")
    for name, reason in left.items() if isinstance(left, dict) else ():
        found.setdefault(str(reason), []).append(name)
    return found


def shortened(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - NAMED_NODES
    return ", ".join(names[:NAMED_NODES]) + (f" and {rest} more" if rest > 0 else "")


def overflow_lines(details: Details) -> list[str]:
    """Which nodes stayed FP32 in an FP16 graph, and what they were found by."""
    overflow, samples = details.get("overflow"), number(details.get("overflow_samples"))
    if not isinstance(overflow, dict):
        return []
    seen = f"{samples:g} training samples" if samples else "made-up inputs"
    held = details.get("holders")
    inside = [f"in FP32 with what is inside: {', '.join(map(str, held))}"] if isinstance(held, list) and held else []
    if not overflow:
        return [f"nothing overflows on {seen}", *inside]
    named = [f"{node.rpartition('/')[2]} ({number(size):.2g})" for node, size in overflow.items()]
    return [f"in FP32, since on {seen} they exceed half of FP16's range: {shortened(named)}", *inside]


def engine_lines(details: Details) -> list[str]:
    """Of two engines that were tried, which was used and why, and the figures of each."""
    engines = details.get("engines")
    if not isinstance(engines, list):
        return []
    lines = [f"by {details.get('engine')}: {details.get('engine_reason')}"]
    for engine in engines:
        if not isinstance(engine, dict):
            continue
        used = "used" if engine.get("engine") == details.get("engine") else "not used"
        figures = [f"{number(engine.get('size_bytes')) / MEGABYTE:.1f} MB"]
        if "p50_ms" in engine:
            figures.append(f"{number(engine['p50_ms']):.2f} ms")
        if engine.get("drop") is not None:
            figures.append(f"{number(engine['drop']) * 100:.2f} points lost on the selection split")
        said = str(engine["failed"]) if "failed" in engine else ", ".join(figures)
        lines.append(f"{engine.get('engine')} ({used}): {said}")
    return lines


def _each(values: list[JsonValue]) -> str:
    """A figure of every layer: ``6 4 4 3``, or ``4 each``."""
    return f"{values[0]} each" if len(set(map(str, values))) == 1 else " ".join(map(str, values))


DESCRIPTIONS: dict[str, Callable[[Details], str]] = {
    "prune": _prune,
    "vocabulary": _vocabulary,
    "optimize": _optimize,
    "quantize": _quantize,
}
