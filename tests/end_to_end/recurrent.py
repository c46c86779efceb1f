"""A task of two components and one state: an encoder of words, and a decoder that spells the answer step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from edgekit.artifact import Artifact, Component, Manifest, State, write_artifact
from edgekit.tasks.base import LABELS, Array, Batch, ComponentSpec, Runner, Task, TrainingOutput, Workload

if TYPE_CHECKING:
    import torch

WORDS, SYMBOLS, HIDDEN, STEPS, START = 50, 48, 40, 3, 0
WEIGHTS = "model.safetensors"


def build(seed: int = 0) -> Any:
    """The encoder averages embeddings; the decoder is a gated recurrent unit (Cho et al. 2014, eq. 5 to 8)."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(WORDS, HIDDEN)
            self.project = nn.Linear(HIDDEN, HIDDEN)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.project(self.embed(ids))).mean(dim=1)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(SYMBOLS, HIDDEN)
            self.inward = nn.Linear(HIDDEN, 3 * HIDDEN)
            self.round = nn.Linear(HIDDEN, 3 * HIDDEN)
            self.context = nn.Linear(HIDDEN, HIDDEN)
            self.out = nn.Linear(HIDDEN, SYMBOLS)

        def forward(
            self, symbol: torch.Tensor, memory: torch.Tensor, hidden: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            reset, update, new = self.inward(self.embed(symbol) + self.context(memory)).chunk(3, dim=-1)
            old_reset, old_update, old_new = self.round(hidden).chunk(3, dim=-1)
            gate = torch.sigmoid(update + old_update)
            candidate = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
            following = (1 - gate) * candidate + gate * hidden
            return self.out(following), following

    torch.manual_seed(seed)
    model = nn.ModuleDict({"encoder": Encoder(), "decoder": Decoder()})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


class Spelling(Task):
    """Ids of words in; for each of a few steps, logits over symbols: [batch, steps, symbols]."""

    name = "spelling"
    columns = {"text": ("text",), "label": ("label",)}
    labels = tuple(f"s{index}" for index in range(SYMBOLS))

    @property
    def metrics(self) -> dict[str, Any]:
        return {"symbols": lambda logits, labels: float((logits.argmax(-1) == labels).mean())}

    def load_model(self) -> torch.nn.Module:
        from safetensors.torch import load_model

        model = build(seed=1)
        load_model(model, str(self.folder / WEIGHTS))
        return model  # type: ignore[no-any-return]

    def build_model(self) -> torch.nn.Module:
        return build(seed=2)  # type: ignore[no-any-return]

    def components(self, model: torch.nn.Module) -> dict[str, ComponentSpec]:
        import torch

        parts: Any = model
        generator = torch.Generator().manual_seed(0)
        symbol = torch.randint(0, SYMBOLS, (2,), generator=generator)
        vectors = {name: torch.randn(2, HIDDEN, generator=generator) for name in ("memory", "hidden")}
        return {
            "encoder": ComponentSpec(
                parts["encoder"],
                {"ids": torch.randint(0, WORDS, (2, 7), generator=generator)},
                {"ids": {0: "batch", 1: "words"}},
                ("memory",),
                limits={"words": 32},
            ),
            "decoder": ComponentSpec(
                parts["decoder"],
                {"symbol": symbol, **vectors},
                {name: {0: "batch"} for name in ("symbol", "memory", "hidden")},
                ("logits", "next_hidden"),
                states=(State(output="next_hidden", input="hidden", initial=("batch", HIDDEN)),),
            ),
        }

    def forward(self, runner: Runner, batch: Batch) -> Array:
        import numpy as np

        memory = runner.run("encoder", {"ids": batch["ids"]})["memory"]
        symbol = np.full(len(memory), START, dtype=np.int64)
        hidden = np.zeros((len(memory), HIDDEN), dtype=np.float32)
        steps = []
        for _ in range(STEPS):
            outputs = runner.run("decoder", {"symbol": symbol, "memory": memory, "hidden": hidden})
            hidden = outputs["next_hidden"]
            symbol = outputs["logits"].argmax(-1)
            steps.append(outputs["logits"])
        return np.stack(steps, axis=1)

    def call(self, model: Any, batch: Mapping[str, torch.Tensor], **_: bool) -> TrainingOutput:
        raise NotImplementedError("this task is not trained")

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("this task is not trained")

    def encode(self, rows: Mapping[str, Sequence[Any]]) -> Words:
        ids = [[int(word[1:]) % WORDS for word in text.split()] for text in rows["text"]]
        return Words(ids, rows.get("label"))

    def interpret(self, logits: Array) -> list[list[tuple[str, float]]]:
        return [[(self.labels[int(step.argmax())], float(step.max())) for step in row] for row in logits]

    def workload_feeds(self, workload: Workload) -> dict[str, Batch]:
        import numpy as np

        random = np.random.default_rng(0)
        vectors = random.standard_normal((2, workload.batch, HIDDEN), dtype=np.float32)
        symbol = random.integers(0, SYMBOLS, workload.batch)
        return {
            "encoder": {"ids": random.integers(0, WORDS, (workload.batch, workload.tokens))},
            "decoder": {"symbol": symbol, "memory": vectors[0], "hidden": vectors[1]},
        }

    def read_label(self, value: object, names: Sequence[str] | None) -> list[float]:
        return [float(part) for part in str(value).split()]

    @property
    def preprocessing(self) -> dict[str, JsonValue]:
        return {"kind": "words"}

    def read_input(self, text: str) -> dict[str, Any]:
        return {"text": text}


@dataclass(frozen=True)
class Words:
    """Sentences as ids, at their own lengths: only sentences of one length share a batch."""

    ids: list[list[int]]
    symbols: Sequence[Any] | None

    def __len__(self) -> int:
        return len(self.ids)

    def length(self, index: int) -> int:
        return len(self.ids[index])

    def batch(self, indices: Sequence[int]) -> Batch:
        import numpy as np

        batch: Batch = {"ids": np.array([self.ids[index] for index in indices], dtype=np.int64)}
        if self.symbols is not None:
            batch[LABELS] = np.array([self.symbols[index] for index in indices], dtype=np.int64)
        return batch


def original(folder: Path) -> Artifact:
    """A torch artifact with random weights."""
    from safetensors.torch import save_model

    folder.mkdir(parents=True)
    save_model(build(), str(folder / WEIGHTS))
    (folder / "config.json").write_text("{}\n")
    part = Component(files=(WEIGHTS,), inputs=(), outputs=())
    return write_artifact(
        folder,
        Manifest(format="torch", task=Spelling.name, source={"kind": "test"}, components={"model": part}),
    )
