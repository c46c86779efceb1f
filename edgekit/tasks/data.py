"""Data: found, hashed, split and named the way a task wants it, by Hugging Face ``datasets``.

The evaluation split is validation where it is labelled, else test where it is labelled, else a seeded tenth of what
there is. The selection split, which stages may look at as often as they like, is cut from the training data and never
overlaps with the evaluation split. Texts that repeat what a cut split says are not trained on, see ``kinship.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from edgekit.description import Sample
from edgekit.errors import DataError, UnknownNameError, retelling
from edgekit.tasks.base import Examples, Task
from edgekit.tasks.data_source import DataSource, load_splits
from edgekit.tasks.kinship import left_out
from edgekit.tasks.stored_images import StoredImages, is_images

if TYPE_CHECKING:
    from datasets import Dataset

# How a split may be called, and what it is then.
ROLES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "eval": "validation",
}
# Columns that a module given as code may read, and those of its labels.
INPUT_COLUMNS = {"image": ("image", "img"), "input": ("input", "inputs", "features", "values", "tokens", "x")}
TEXT_COLUMNS = ("text", "pair")
LABEL_COLUMNS = ("label", "labels", "tags", "target", "class", "y")
SELECTION_SHARE, SELECTION_MOST = 0.1, 1000
EVALUATION_SHARE = 0.1
# Of the training rows, the most that are left out because a split that was cut from them says the same.
LEFT_OUT_MOST = 0.2


def first_sample(source: DataSource, columns: Mapping[str, str]) -> Sample:
    """What the data says of a module's input: from the first row of its training split.

    Args:
        source: the data.
        columns: our name of a column to the data's.

    Raises:
        DataError: it has neither images nor arrays of numbers.
    """
    import numpy as np

    splits = load_splits(source)
    rows = splits.get("train", next(iter(splits.values())))
    names = tuple(_class_names(rows, _find_column(rows, columns.get("label"), "label", LABEL_COLUMNS)) or ())
    for kind, known in INPUT_COLUMNS.items():
        name = _find_column(rows, columns.get(kind), kind, known)
        if name is None:
            continue
        if kind == "image" and is_images(rows, name):
            value = StoredImages(rows, name, source)[0]
            channels = 1 if value.mode in ("L", "1") else 3
            return Sample((channels, value.height, value.width), "float32", names, image=True)
        try:
            array = np.asarray(_read(rows.select([0]), name)[0])
        except ValueError:  # lists of several lengths
            continue
        if array.ndim and array.dtype.kind in "fiu":
            return Sample(array.shape, "float32" if array.dtype.kind == "f" else "int64", names)
    raise DataError(
        f"the data {Path(source.location).name!r} has no column that a module could read",
        id="data.no-column",
        why=f"columns: {', '.join(rows.column_names)}",
        hint="Name it with --columns image=NAME (images) or --columns input=NAME (arrays of numbers).",
    )


class Data:
    """The splits of a data source, encoded for a task when they are first used.

    Args:
        source: where it lies.
        task: names the columns and reads the labels.
        seed: of every cut made here.
    """

    def __init__(self, source: DataSource, task: Task, seed: int) -> None:
        self.source = source
        self.task = task
        self.seed = seed

    def at(self, task: Task) -> Data:
        """The same rows in the same splits, as another task on this model's kind reads them."""
        other = Data(self.source, task, self.seed)
        other.raw = self.raw
        return other

    @cached_property
    def raw(self) -> dict[str, Dataset]:
        """Splits under their own names."""
        return load_splits(self.source)

    @cached_property
    def roles(self) -> dict[str, str]:
        """Which of our roles (train, validation, test) each split has."""
        found: dict[str, str] = {}
        for name in self.raw:
            role = ROLES.get(name.lower(), name.lower())
            found.setdefault(role, name)
        return found

    @cached_property
    def evaluation_source(self) -> str | None:
        """The split that limits are checked on, or None when it is cut from the training data."""
        named = [self.roles[role] for role in ("validation", "test") if role in self.roles]
        unlabelled = self.task.compares and not any(self._labelled(name) for name in self.raw)
        fit = (name for name in named if len(self.raw) > 1 and (unlabelled or self._labelled(name)))
        return next(fit, None)

    @cached_property
    def _cuts(self) -> dict[str, list[int]]:
        """Row numbers of the training split by what they are for."""
        import numpy as np

        rows = np.random.default_rng([self.seed, 1]).permutation(len(self.raw[self.train_source])).tolist()
        evaluation = 0 if self.evaluation_source else max(1, round(len(rows) * EVALUATION_SHARE))
        selection = max(1, min(SELECTION_MOST, round((len(rows) - evaluation) * SELECTION_SHARE)))
        if len(rows) < evaluation + selection + 1:
            raise DataError(
                f"the data has {len(rows)} training rows",
                id="data.too-few",
                why=f"needed: at least {evaluation + selection + 1}",
            )
        held, rest = rows[: evaluation + selection], rows[evaluation + selection :]
        out = self._kin(held)
        return {
            "evaluation": sorted(held[:evaluation]),
            "selection": sorted(held[evaluation:]),
            "train": sorted(row for row in rest if row not in out),
            "left out": sorted(out),
        }

    def _kin(self, held: Sequence[int]) -> set[int]:
        """Rows of the training split whose texts repeat those of rows that are held back."""
        dataset = self.raw[self.train_source]
        names = [self._column(dataset, wanted) for wanted in TEXT_COLUMNS if wanted in self.task.columns]
        columns = [_read(dataset, name) for name in names if name is not None]
        rows = [[text for text in row if isinstance(text, str)] for row in zip(*columns, strict=True)]
        return left_out(rows, held, round(LEFT_OUT_MOST * len(rows))) if rows else set()

    @cached_property
    def train_source(self) -> str:
        """The split that is trained on: the one called so, else the largest that is not evaluated."""
        if "train" in self.roles:
            return self.roles["train"]
        rest = [name for name in self.raw if name != self.evaluation_source]
        return max(rest, key=lambda name: len(self.raw[name])) if rest else next(iter(self.raw))

    @cached_property
    def train(self) -> Examples:
        return self._encode(self.train_source, self._cuts["train"])

    @cached_property
    def selection(self) -> Examples:
        return self._encode(self.train_source, self._cuts["selection"])

    @cached_property
    def evaluation(self) -> Examples:
        if self.evaluation_source:
            return self._encode(self.evaluation_source, None)
        return self._encode(self.train_source, self._cuts["evaluation"])

    def split(self, name: str | None) -> tuple[Examples, str]:
        """One split by its name or role (None: the evaluation split), and a sentence that says which rows those are."""
        if name is None:
            return self.evaluation, self.rule
        known = {**self.roles, **{split: split for split in self.raw}}
        if name not in known:
            raise UnknownNameError("split", name, known, id="unknown-name.split")
        return self._encode(known[name], None), known[name]

    @property
    def rule(self) -> str:
        """How the evaluation split was chosen."""
        if self.evaluation_source:
            return self.evaluation_source
        return f"a tenth of {self.train_source} (seed {self.seed})"

    @property
    def record(self) -> dict[str, JsonValue]:
        """Sizes and choice of the splits, for the report."""
        sizes: dict[str, JsonValue] = {
            "train": len(self.train),
            "selection": len(self.selection),
            "evaluation": len(self.evaluation),
        }
        sizes |= {"left_out": len(out)} if (out := self._cuts["left out"]) else {}
        return {**self.source.record, "evaluation_split": self.rule, "samples": sizes}

    def _labelled(self, name: str) -> bool:
        dataset = self.raw[name]
        column = self._column(dataset, "label")
        if column is None:
            return False
        return any(self.task.is_label(value) for value in _read_list(dataset, column))

    def _column(self, dataset: Dataset, wanted: str) -> str | None:
        return _find_column(dataset, self.task.options.columns.get(wanted), wanted, self.task.columns[wanted])

    @cached_property
    def evaluation_labels(self) -> list[Any]:
        """The labels of the evaluation split, as the task reads them, in its order; empty where it has none."""
        whole = self.evaluation_source is not None
        dataset = self._rows(self.evaluation_source or self.train_source, None if whole else self._cuts["evaluation"])
        column = self._column(dataset, "label")
        labels = [] if column is None else self._read_labels(dataset, column)
        return [label for label in labels if self.task.is_label(label)]

    def _rows(self, name: str, rows: list[int] | None) -> Dataset:
        return self.raw[name] if rows is None else self.raw[name].select(rows)

    def _encode(self, name: str, rows: list[int] | None) -> Examples:
        dataset = self._rows(name, rows)
        unknown = self.task.options.columns.keys() - self.task.columns.keys()
        if unknown:
            raise UnknownNameError("kind of column", min(unknown), self.task.columns, id="unknown-name.column")
        found = {wanted: self._column(dataset, wanted) for wanted in self.task.columns}
        first = next(iter(self.task.columns))
        if found[first] is None:
            raise DataError(
                f"the split {name!r} has no column for {first!r}",
                id="data.no-column",
                why=f"columns: {', '.join(dataset.column_names)}; recognised: {', '.join(self.task.columns[first])}",
                hint=f"Name it: --columns {first}=NAME.",
            )
        columns: dict[str, Sequence[Any]] = {
            wanted: StoredImages(dataset, name, self.source)
            if wanted == "image" and is_images(dataset, name)
            else _read(dataset, name)
            for wanted, name in found.items()
            if name is not None
        }
        if "label" in columns:
            columns["label"] = self._read_labels(dataset, str(found["label"]))
            columns = self._drop_unlabelled(columns)
        _check_text(columns, name)
        return self.task.encode(columns)

    def _read_labels(self, dataset: Dataset, column: str) -> list[Any]:
        names = _class_names(dataset, column)
        values = _read_list(dataset, column)
        return [self.task.read_label(value, names) if value is not None else None for value in values]

    def _drop_unlabelled(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """The rows that have a label; all rows, without the column, where none has."""
        kept = [row for row, label in enumerate(columns["label"]) if self.task.is_label(label)]
        if not kept:
            return {name: values for name, values in columns.items() if name != "label"}
        if len(kept) == len(columns["label"]):
            return dict(columns)
        return {
            name: cast("Any", values)[kept] if hasattr(values, "ndim") else [values[row] for row in kept]
            for name, values in columns.items()
        }


def _find_column(dataset: Dataset, given: str | None, wanted: str, known: Sequence[str]) -> str | None:
    """The data's name of a column: the one that was given, else one of those that are known."""
    if given is not None:
        if given not in dataset.column_names:
            raise UnknownNameError(
                "column",
                given,
                dataset.column_names,
                id="unknown-name.column",
                hint=f"It was given for {wanted!r} with --columns.",
            )
        return given
    lowered = {name.lower(): name for name in dataset.column_names}
    return next((lowered[name] for name in known if name in lowered), None)


def _read(dataset: Dataset, column: str) -> Any:
    """The values of a column: a list, or an array of several axes.

    Raises:
        DataError: there is something in it that Python has no value for.
    """

    def unreadable(why: str) -> DataError:
        return DataError(f"the column {column!r} of the data cannot be read", id="data.unreadable", why=why)

    with retelling(unreadable):
        return dataset[column][:]


def _read_list(dataset: Dataset, column: str) -> list[Any]:
    """The same, as Python's numbers, texts and lists throughout."""
    values = _read(dataset, column)
    return list(values.tolist() if hasattr(values, "ndim") else values)


def _class_names(dataset: Dataset, column: str | None) -> Sequence[str] | None:
    """The data's own names of the classes in a column of labels, or of lists of them; None where it has none."""
    feature = dataset.features.get(column)
    names = getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)
    return [str(name) for name in names] if names else None  # a card may have numbers for names


def _check_text(columns: Mapping[str, Sequence[Any]], name: str) -> None:
    for column in TEXT_COLUMNS:
        for row, value in enumerate(columns.get(column, ())):
            if not isinstance(value, str) or not _is_unicode(value):
                raise DataError(
                    f"row {row} of the split {name!r} has no text in the column for {column!r}",
                    id="data.unsuitable-sample",
                    why=f"it holds {repr(value)[:80]}",
                )


def _is_unicode(text: str) -> bool:
    """Whether it is text throughout: JSON and arrays may hold half of a pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
