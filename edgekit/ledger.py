"""The loss ledger: what each stage changed, so that the changes of those that were kept add up to the whole."""

from __future__ import annotations

from edgekit.settings import Record

ORIGINAL = "original"


class LedgerRow(Record):
    """What one stage did.

    Attributes:
        stage: its name; ``original`` in the first row.
        kept: False when the stage was undone.
        reason: why it was kept or undone.
        metric: of the artifact after the stage, on the evaluation split; None without data.
        size_bytes: of the artifact's model files after the stage.
        latency_ms: p50 in the one interleaved run; None where it cannot be measured.
        instructions: of one inference, by emulated device; empty where none is emulated.
        metric_delta, size_delta_bytes, latency_delta_ms: against the row before that was kept; 0 when undone.
        would_metric, would_size_bytes, would_latency_ms: the change that an undone stage would have made.
        instructions_change: by emulated device, the change that the stage made, or would have made where it was undone.
    """

    stage: str
    kept: bool = True
    reason: str = ""
    metric: float | None = None
    size_bytes: int
    latency_ms: float | None = None
    instructions: dict[str, int] = {}
    metric_delta: float | None = None
    size_delta_bytes: int = 0
    latency_delta_ms: float | None = None
    would_metric: float | None = None
    would_size_bytes: int | None = None
    would_latency_ms: float | None = None
    instructions_change: dict[str, int] = {}


def build_ledger(rows: list[LedgerRow]) -> tuple[LedgerRow, ...]:
    """Fill in the changes: each kept row against the kept row before it, so that they add up to the whole."""
    done: list[LedgerRow] = []
    last: LedgerRow | None = None
    for given in rows:
        if last is None:
            done.append(given)
            last = given
            continue
        row = given.model_copy(update={"instructions_change": _counted(given, last)})
        metric = _difference(row.metric, last.metric)
        latency = _difference(row.latency_ms, last.latency_ms)
        size = row.size_bytes - last.size_bytes
        if row.kept:
            done.append(
                row.model_copy(update={"metric_delta": metric, "latency_delta_ms": latency, "size_delta_bytes": size})
            )
            last = row
        else:
            nothing = {
                "metric_delta": None if metric is None else 0.0,
                "latency_delta_ms": None if latency is None else 0.0,
                "size_delta_bytes": 0,
            }
            would = {"would_metric": metric, "would_latency_ms": latency, "would_size_bytes": size}
            done.append(row.model_copy(update=nothing | would))
    return tuple(done)


def _counted(after: LedgerRow, before: LedgerRow) -> dict[str, int]:
    """The change of the instructions on each device."""
    both = [device for device in after.instructions if device in before.instructions]
    return {device: after.instructions[device] - before.instructions[device] for device in both}


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
