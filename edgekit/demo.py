"""The embedded default: a small ViT, fine-tuned on scikit-learn's digits and compressed for this machine.

It needs no network and no data of one's own. The images are 8 x 8 pixels; the model reads them in patches of 2 x 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.api import output_path, run_request
from edgekit.cache import Cache, Filled, cache_key, copy_object, folders_in, put_first
from edgekit.environment import available_cores, code_digest, numeric_level, spin_briefly, versions
from edgekit.placing import check_output
from edgekit.progress import Progress, Silent
from edgekit.report import Report
from edgekit.request import resolve_request
from edgekit.tasks.pixels import load_processor
from edgekit.workshop import use_threads

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, ViTForImageClassification

SEED = 0
EPOCHS, BATCH_SIZE, LEARNING_RATE = 10, 32, 1e-3
VALIDATION_SHARE = 0.2
IMAGE, PATCH, WIDTH, LAYERS, HEADS, NEURONS = 8, 2, 192, 6, 6, 768
# The versions of transformers have different classes for it, and all read it.
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": IMAGE, "width": IMAGE},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
MODEL, DATA = "digits-vit", "digits"
# Digits are few: many short passes, and looks often enough to stop at the best of them.
SETTINGS = {"distill.epochs": "8", "distill.learning_rate": "1e-3", "distill.evaluate_every": "80"}


def demo(*, output: str | Path | None = None, jobs: int | None = None, progress: Progress | None = None) -> Report:
    """Fine-tune, compress, measure: the whole line on data that comes with scikit-learn.

    Args:
        output: directory for the result; ``artifacts/digits-vit-host`` by default.
        jobs: threads that train; every core by default.
        progress: told how far it is.
    """
    spin_briefly()
    if output is not None:
        check_output(Path(output).expanduser())  # before the training
    told, cache = progress or Silent(), Cache()
    threads = jobs or available_cores()
    source, data = _prepared(cache, threads, told)
    request = resolve_request(source, data=data, target="host", settings=SETTINGS, jobs=threads, seed=SEED)
    return run_request(request, output_path(request, output), told, cache)


def _prepared(cache: Cache, threads: int, progress: Progress) -> tuple[Path, Path]:
    """Folders of the fine-tuned model and of its data, made once and kept in the cache."""
    key = cache_key("demo", code_digest(), dict(versions()), numeric_level(), threads)

    def make(scratch: Callable[[], Path]) -> Filled:
        folder = scratch()
        write_data(folder / DATA)
        train_model(folder / DATA, folder / MODEL, threads, progress)
        return Filled(folder)

    found, place = cache.get_or_make(key, make), cache.root / "demo" / key
    if not place.is_dir():
        with folders_in(cache.scratch()) as scratch:
            copied = scratch()
            copy_object(found, copied)
            put_first(copied, place)
    return place / MODEL, place / DATA


def write_data(folder: Path) -> None:
    """The digits as ``train.parquet`` and ``validation.parquet``, with the columns image and label."""
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, Image
    from PIL import Image as Pillow
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.target))
    held_out = round(len(order) * VALIDATION_SHARE)
    features = Features({"image": Image(), "label": ClassLabel(names=[str(number) for number in range(10)])})
    folder.mkdir(parents=True)
    for name, rows in (("validation", order[:held_out]), ("train", order[held_out:])):
        images = [Pillow.fromarray((digits.images[row] * 15.9375).astype(np.uint8)) for row in rows]
        labels = [int(digits.target[row]) for row in rows]
        Dataset.from_dict({"image": images, "label": labels}, features=features).to_parquet(folder / f"{name}.parquet")


def train_model(data: Path, folder: Path, threads: int, progress: Progress) -> None:
    """Fine-tune a fresh vision transformer on the training split, and save it with its image processor."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    use_threads(threads)
    torch.manual_seed(SEED)
    config = ViTConfig(
        image_size=IMAGE,
        patch_size=PATCH,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=NEURONS,
        num_channels=3,
        id2label={number: str(number) for number in range(10)},
        label2id={str(number): number for number in range(10)},
    )
    model = ViTForImageClassification(config)
    folder.mkdir()
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2), encoding="utf-8")
    pixels, labels = _tensors(data / "train.parquet", load_processor(folder))
    _fit(model, pixels, labels, progress)
    model.save_pretrained(folder)


def _tensors(file: Path, processor: BaseImageProcessor) -> tuple[object, object]:
    import torch
    from datasets import Dataset

    rows = Dataset.from_parquet(str(file))
    images = [image.convert("RGB") for image in rows["image"]]
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    return pixels, torch.tensor(rows["label"][:])


def _fit(model: ViTForImageClassification, pixels: object, labels: object, progress: Progress) -> None:
    import torch

    steps_per_epoch = -(-len(labels) // BATCH_SIZE)  # type: ignore[arg-type]
    steps = EPOCHS * steps_per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    model.train()
    progress.start("demo: fine-tune a ViT on the digits", steps)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SEED + epoch))  # type: ignore[arg-type]
        for rows in order.split(BATCH_SIZE):
            loss = model(pixel_values=pixels[rows], labels=labels[rows]).loss  # type: ignore[index]
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            progress.advance(1, f"loss {loss.item():.3f}")
    progress.finish()
    model.eval()
