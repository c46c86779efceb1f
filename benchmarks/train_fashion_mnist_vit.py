"""Train a small vision transformer on Fashion-MNIST: the model of the asset `fashion-mnist-vit`.

    python benchmarks/train_fashion_mnist_vit.py [OUT] [--data zalando-datasets/fashion_mnist]

`--data` takes a local folder of parquet files too, with the columns image and label. Ends with the accuracy on the
split that was not trained on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, DatasetDict, load_dataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, ViTImageProcessorPil

OUTPUT = Path(__file__).parents[1] / "artifacts" / "models" / "fashion-mnist-vit"
SIZE = {"image_size": 28, "patch_size": 7, "hidden_size": 192, "num_hidden_layers": 6}
HEADS = {"num_attention_heads": 6, "intermediate_size": 768}
SHIFT = 2  # pixels that a training image is moved by, at most
SEED = 0


class Pixels(torch.utils.data.Dataset):
    """Pre-processed images; those to train on are moved and mirrored at random."""

    def __init__(self, rows: Dataset, processor: ViTImageProcessorPil, *, augment: bool) -> None:
        images = [image.convert("RGB") for image in rows["image"]]
        self._pixels = processor(images, return_tensors="pt")["pixel_values"]
        self._labels = rows["label"][:]
        self._augment = augment

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, object]:
        pixels = self._pixels[index]
        if self._augment:
            across, down = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
            pixels = torch.roll(pixels, (down, across), (1, 2))
            if torch.rand(()) < 0.5:
                pixels = pixels.flip(2)
        return {"pixel_values": pixels, "labels": self._labels[index]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=OUTPUT)
    parser.add_argument("--data", default="zalando-datasets/fashion_mnist")
    parser.add_argument("--epochs", type=float, default=12)
    given = parser.parse_args()
    splits = load_dataset(given.data)
    assert isinstance(splits, DatasetDict)
    held_out = next(name for name in ("validation", "test") if name in splits)
    names = splits["train"].features["label"].names
    torch.manual_seed(SEED)
    config = ViTConfig(
        **SIZE, **HEADS, id2label=dict(enumerate(names)), label2id={name: index for index, name in enumerate(names)}
    )
    processor = ViTImageProcessorPil(size={"height": 28, "width": 28}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    model = ViTForImageClassification(config)
    # the trainer makes its folder at once, and a model is to be there when it is whole
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=64,
            per_device_eval_batch_size=256,
            learning_rate=5e-4,
            weight_decay=0.05,
            warmup_steps=0.1,
            lr_scheduler_type="cosine",
            save_strategy="no",
            logging_steps=100,
            report_to=[],
            seed=SEED,
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=Pixels(splits["train"], processor, augment=True),
            eval_dataset=Pixels(splits[held_out], processor, augment=False),
            compute_metrics=lambda seen: {"accuracy": float(np.mean(seen.predictions.argmax(-1) == seen.label_ids))},
        )
        trainer.train()
        print(trainer.evaluate())
    model.save_pretrained(given.output)
    processor.save_pretrained(given.output)


if __name__ == "__main__":
    main()
