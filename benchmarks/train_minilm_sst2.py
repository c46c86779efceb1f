"""Fine-tune a MiniLM encoder on SST-2: the model of the asset `minilm-sst2`, for those who do not have it.

    python benchmarks/train_minilm_sst2.py [OUT] [--base nreimers/MiniLM-L6-H384-uncased] [--data stanfordnlp/sst2]

It is found where it lies by default, artifacts/models/minilm-sst2. `--base` and `--data` take local folders too.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

LABELS = ("negative", "positive")
OUTPUT = Path(__file__).parents[1] / "artifacts" / "models" / "minilm-sst2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=OUTPUT)
    parser.add_argument("--base", default="nreimers/MiniLM-L6-H384-uncased")
    parser.add_argument("--data", default="stanfordnlp/sst2")
    parser.add_argument("--epochs", type=float, default=2)
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    model = AutoModelForSequenceClassification.from_pretrained(
        given.base,
        dtype=torch.float32,
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
    )
    rows = load_dataset(given.data)["train"]
    text = "sentence" if "sentence" in rows.column_names else "text"
    encoded = rows.map(lambda batch: tokenizer(batch[text], truncation=True, max_length=128), batched=True)
    # the trainer makes its folder at once, and a model is to be there when it is whole
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=32,
            learning_rate=5e-5,
            save_strategy="no",
            report_to=[],
        )
        collator = DataCollatorWithPadding(tokenizer)
        Trainer(model, arguments, train_dataset=encoded, data_collator=collator, processing_class=tokenizer).train()
    model.save_pretrained(given.output)
    tokenizer.save_pretrained(given.output)


if __name__ == "__main__":
    main()
