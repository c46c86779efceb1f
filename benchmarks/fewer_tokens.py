"""Time a student of random weights whose layers leave tokens out beside the same one with all tokens.

    python benchmarks/fewer_tokens.py                             4 layers of 6 heads and 512 neurons, 384 wide
    python benchmarks/fewer_tokens.py --tokens 24 64 128          at these lengths

Each is exported, rewritten and quantized as a run does it (every rewrite, dynamic INT8 of all products), and takes its
turn in each round: the figure is the processor's time of an inference with one thread, and the ratio the median of the
rounds' ratios. Weights are random, so that nothing is said of answers. The result goes to `results/fewer_tokens.jsonl`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from lines import append

from edgekit.environment import code_digest, host, versions
from edgekit.formats.graph import tidy
from edgekit.formats.onnx import export_component, load_graph, save_graph
from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay
from edgekit.optimization import REWRITES
from edgekit.quantization.dynamic import Widths, quantize_dynamically
from edgekit.quantization.schemes import weighted_nodes
from edgekit.runtimes.ort import open_session
from edgekit.tasks.base import ComponentSpec

RESULTS = Path(__file__).parent / "results" / "fewer_tokens.jsonl"
LAYERS, WIDTH, HEADS, NEURONS = 4, 384, 6, 512
OPSET, WORDS, LONGEST, WARMUP = 23, 1000, 512, 3
SHARES: dict[str, tuple[float, ...] | None] = {
    "all": None,
    "100 50 25 %": (1.0, 0.5, 0.25),
    "63 39.7 25 %": (0.63, 0.397, 0.25),
    "50 25 12.5 %": (0.5, 0.25, 0.125),
}


def component(shares: tuple[float, ...] | None) -> ComponentSpec:
    """The student as it is exported."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    class Classifier(torch.nn.Module):
        """The logits alone, the mask spelled out."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            mask = attention_mask[:, None, None, :].bool().expand(-1, -1, input_ids.shape[1], -1)
            logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=mask).logits
            return logits

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=12,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LONGEST,
    )
    model = BertForSequenceClassification(config).eval()
    heads, neurons = tuple(range(HEADS)), tuple(range(NEURONS))
    layers = tuple(LayerPlan(index=index, heads=heads, neurons=neurons) for index in range(LAYERS))
    replay(model, EncoderPlan(architecture=type(model).__name__, layers=layers, tokens=shares))
    ids = torch.randint(0, WORDS, (2, 16))
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    axes = {name: {0: "batch", 1: "sequence"} for name in example}
    return ComponentSpec(Classifier(model).eval(), example, axes, ("logits",), limits={"sequence": LONGEST})


def make(folder: Path, name: str, shares: tuple[float, ...] | None) -> dict[str, Path]:
    """The student's graphs by precision."""
    files = {precision: folder / f"{name}.{precision}.onnx" for precision in ("fp32", "int8")}
    export_component(component(shares), files["fp32"], OPSET)
    for precision, file in files.items():
        model = load_graph(files["fp32"])
        if precision == "fp32":
            for rewrite in REWRITES.values():
                rewrite.apply(model.graph)
        else:
            products = [node.name for node in weighted_nodes(model, embeddings=False) if node.kind == "MatMul"]
            quantize_dynamically(model, products, Widths("s8", per_channel=True, reduced=False))
        tidy(model)
        save_graph(model, file)
    return files


def measure(files: Sequence[Path], tokens: int, rounds: int, runs: int) -> list[list[float]]:
    """Milliseconds of the processor for an inference, of each file in each round."""
    ids = np.random.default_rng(0).integers(0, WORDS, (1, tokens), dtype=np.int64)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    sessions = [open_session(file, 1) for file in files]
    found: list[list[float]] = [[] for _ in files]
    for _ in range(rounds):
        for place, session in enumerate(sessions):
            for _ in range(WARMUP):
                session.run(None, feeds)
            start = time.process_time()
            for _ in range(runs):
                session.run(None, feeds)
            found[place].append((time.process_time() - start) / runs * 1000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[24, 64, 128])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=5, help="inferences of each in a round")
    parser.add_argument("--quietly", action="store_true", help="leave no line in the results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: make(Path(scratch), str(place), shares) for place, (name, shares) in enumerate(SHARES.items())}
        rows = []
        for tokens in asked.tokens:
            for precision in ("fp32", "int8"):
                times = measure([files[precision] for files in made.values()], tokens, asked.rounds, asked.runs)
                for name, mine in zip(made, times, strict=True):
                    ratio = float(np.median(np.array(times[0]) / np.array(mine)))
                    rows.append({"tokens": tokens, "precision": precision, "left": name})
                    rows[-1] |= {"cpu_ms": round(float(np.median(mine)), 4), "times_as_fast": round(ratio, 3)}
                    print(f"{tokens:4} tokens  {precision}  {name:13} {np.median(mine):7.3f} ms  {ratio:.2f} x")
    if not asked.quietly:
        append(
            RESULTS,
            {
                "schema": "edgekit.fewer-tokens/1",
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "code": code_digest(),
                "host": host().record,
                "versions": versions(),
                "rounds": asked.rounds,
                "runs": asked.runs,
                "rows": rows,
            },
        )


if __name__ == "__main__":
    main()
