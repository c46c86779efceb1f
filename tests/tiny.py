"""Models of a few thousand weights, their folders, their data, and artifacts made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import WHOLE, Artifact, Component, Manifest
from edgekit.environment import version_of
from edgekit.formats.thinning import FIRST_TRANSFORMERS
from edgekit.source import sha256_file
from edgekit.tasks import bind_task, task_of
from edgekit.tasks.base import Batch, Examples, Task, TaskOptions

HIDDEN, HEADS, NEURONS, LAYERS, VOCABULARY, PIXELS, PATCH = 32, 4, 64, 3, 60, 8, 4
WORDS = [f"w{index}" for index in range(VOCABULARY - 4)]
TEXT = ("bert", "roberta", "electra", "distilbert")
IMAGE = ("vit", "deit")
ARCHITECTURES = (*TEXT, *IMAGE)
# Whether the transformers at hand take layers that leave tokens out.
THINS = int(str(version_of("transformers")).partition(".")[0]) >= FIRST_TRANSFORMERS
NO_THINNING = f"needs transformers {FIRST_TRANSFORMERS}"


def build(family: str, *, layers: int = LAYERS, labels: int = 2, seed: int = 0, **changes: Any) -> Any:
    """A random classifier of a family, in evaluation mode."""
    import torch
    import transformers as t

    shape = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": NEURONS,
    }
    words = {"vocab_size": VOCABULARY, "max_position_embeddings": 40, "pad_token_id": 0}
    pixels = {"image_size": PIXELS, "patch_size": PATCH, "num_channels": 1}
    narrow = {"dim": HIDDEN, "n_layers": layers, "n_heads": HEADS, "hidden_dim": NEURONS}
    table: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "bert": (t.BertForSequenceClassification, t.BertConfig, shape | words),
        "roberta": (t.RobertaForSequenceClassification, t.RobertaConfig, shape | words),
        "electra": (t.ElectraForSequenceClassification, t.ElectraConfig, shape | words | {"embedding_size": HIDDEN}),
        "distilbert": (t.DistilBertForSequenceClassification, t.DistilBertConfig, narrow | words),
        "vit": (t.ViTForImageClassification, t.ViTConfig, shape | pixels),
        "deit": (t.DeiTForImageClassification, t.DeiTConfig, shape | pixels),
    }
    model_class, config_class, values = table[family]
    torch.manual_seed(seed)
    model = model_class(config_class(**(values | {"num_labels": labels} | changes))).eval()
    with torch.no_grad():  # fresh biases are zero, and a test should see them; larger weights make outputs differ
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
            elif parameter.ndim == 2:
                parameter.mul_(5)
    return model


def tokenizer() -> Any:
    """A tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def save(model: Any, folder: Path) -> Path:
    """A model folder with what feeds the model."""
    model.save_pretrained(folder)
    if model.config.model_type in IMAGE:
        size = {"height": PIXELS, "width": PIXELS}
        processor = {"image_processor_type": "ViTImageProcessor", "size": size, "image_mean": [0.5], "image_std": [0.5]}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    else:
        words = tokenizer()
        if model.config.model_type in ("distilbert", "roberta"):
            words.model_input_names = ["input_ids", "attention_mask"]
        words.save_pretrained(folder)
    return folder


def task_for(folder: Path, **options: Any) -> Task:
    """The task of the model in a folder."""
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    return bind_task(task_of(architecture), folder, TaskOptions(**options))


def sentences(count: int, *, seed: int = 0, longest: int = 12) -> list[str]:
    """Sentences of varying length."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(3, longest))) for _ in range(count)]


def labelled(count: int, *, seed: int = 0) -> dict[str, list[Any]]:
    """Sentences with a label that can be learned: whether the first word is of the first half."""
    texts = sentences(count, seed=seed)
    return {"text": texts, "label": [int(WORDS.index(text.split()[0]) < len(WORDS) // 2) for text in texts]}


def images(count: int, *, seed: int = 0) -> dict[str, list[Any]]:
    """Grey images with a label: whether the left half is brighter."""
    from PIL import Image

    random = np.random.default_rng(seed)
    arrays = random.integers(0, 256, (count, PIXELS, PIXELS), dtype=np.uint8)
    labels = [int(array[:, : PIXELS // 2].sum() > array[:, PIXELS // 2 :].sum()) for array in arrays]
    return {"image": [Image.fromarray(array) for array in arrays], "label": labels}


def examples_for(task: Task, count: int, *, seed: int = 0) -> Examples:
    """Samples of the task."""
    return task.encode(labelled(count, seed=seed) if task.name == "text-classification" else images(count, seed=seed))


def batches(task: Task, count: int, size: int = 8) -> list[Batch]:
    """Samples in batches."""
    examples = examples_for(task, count)
    return [examples.batch(range(start, min(start + size, count))) for start in range(0, count, size)]


def logits(task: Task, model: Any, batch: Batch) -> Any:
    """The model's answer, [batch, classes]."""
    import torch

    with torch.no_grad():
        return task.call(model, {name: torch.from_numpy(values) for name, values in batch.items()}).logits.numpy()


def manifest(**changes: Any) -> Manifest:
    """A manifest of one component."""
    values: dict[str, Any] = {
        "format": "onnx",
        "task": "text-classification",
        "source": {"name": "tiny"},
        "components": {WHOLE: Component(files=("model.onnx",), inputs=(), outputs=())},
    }
    return Manifest(**(values | changes))


# Heads that stay in each layer of a BERT.
PRUNED = {"pruned": ((0, 2, 3), (1, 2), (0, 3)), "one head": ((0, 2, 3), (1,), (2,))}


def export(task: Task, model: Any, folder: Path, *, opset: int = 23) -> Artifact:
    """A model as an ONNX artifact, its graph as the export stage leaves it."""
    from edgekit.artifact import write_artifact
    from edgekit.formats.onnx import describe_component, export_component

    folder.mkdir(parents=True, exist_ok=True)
    export_component(task.components(model)[WHOLE], folder / "model.onnx", opset)
    described = describe_component(folder / "model.onnx")
    return write_artifact(folder, manifest(task=task.name, components={WHOLE: described}))


class Exported:
    """For each name a task and its graph, made once: a family, or one of ``PRUNED``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, tuple[Task, Artifact]] = {}
        self.sums: dict[str, str] = {}

    def __getitem__(self, name: str) -> tuple[Task, Artifact]:
        if name not in self.made:
            folder = self.folder / name.replace(" ", "-")
            task = task_for(save(build("bert" if name in PRUNED else name), folder / "model"))
            model = task.load_model()
            if name in PRUNED:
                _prune(model, PRUNED[name])
            self.made[name] = task, export(task, model, folder / "onnx")
            self.sums[name] = sha256_file(self.made[name][1].file())
        return self.made[name]

    def check(self) -> None:
        """Fail where a test wrote into a graph that all share: it must make its own."""
        changed = [name for name, (_, artifact) in self.made.items() if sha256_file(artifact.file()) != self.sums[name]]
        assert not changed, f"changed by a test: {changed}"


def _prune(model: Any, heads: tuple[tuple[int, ...], ...]) -> None:
    from edgekit.formats.surgery import EncoderPlan, LayerPlan, replay

    layers = tuple(
        LayerPlan(index=index, heads=kept, neurons=tuple(range(16 * (index + 1)))) for index, kept in enumerate(heads)
    )
    replay(model, EncoderPlan(architecture=type(model).__name__, layers=layers))


def repeat_half(model: Any) -> None:
    """The second half of the columns repeats the first, and nothing reads it."""
    from edgekit.formats.stream import stream_of

    half = HIDDEN // 2
    stream = stream_of(model)
    written = [values.data for writer in stream.writers for values in (writer.weight, writer.bias)]
    written += [values.data for norm in stream.norms for values in (norm.weight, norm.bias)]
    written += [table.weight.data.T for table in stream.tables]
    written += [getattr(module, name).data.transpose(0, -1) for module, name in stream.vectors]
    for values in written:
        values[half:] = values[:half]
    for matrix in (matrix for part in stream.readers for matrix in part):
        matrix.weight.data[:, half:] = 0
