"""What a teacher that is an encoder says to each training sample: asked once, then read from files.

    states-3.bin   the hidden states of index 3 of all samples, bfloat16 [tokens of all samples, width]
    states-3.sums  a checksum of each sample's part, 0 where it is not there, uint32 [samples]
    logits.bin     float32 [samples, outputs], and its sums likewise

A sample's answer is always that of one batch, its sheet: a batch of the first pass over the samples, whoever asks for
it, and when. So training computes the same numbers whether an answer was kept or is asked for again, be it that a run
was killed, that a file was lost, or that another training has asked before. Files are written before their sums, and a
sum that does not fit makes an answer absent, so that nothing is believed which a power cut left half-written.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.distillation.teacher import Teacher
from edgekit.tasks.base import MASK, Array, Examples, TrainingOutput, shuffled_batches

if TYPE_CHECKING:
    import torch

# Told how many bytes the answers take; gives the folder where they lie, or None where they are not kept.
Place = Callable[[int], Path | None]


def sheets_of(examples: Examples, size: int, seed: int) -> list[list[int]]:
    """Every sample in one batch: those of the first pass, then what that leaves out."""
    sheets = shuffled_batches(examples, size, seed, 0)
    used = {index for sheet in sheets for index in sheet}
    rest = sorted((index for index in range(len(examples)) if index not in used), key=examples.length)
    return [*sheets, *(rest[start : start + size] for start in range(0, len(rest), size))]


@dataclass
class _Rows:
    """Rows of one kind in a file, some for each sample, with their checksums."""

    file: Any
    sums: Array
    starts: Array
    row_bytes: int

    @classmethod
    def open(cls, file: Path, starts: Array, row_bytes: int) -> _Rows:
        import numpy as np

        samples = len(starts) - 1
        with file.open("ab"), file.with_suffix(".sums").open("ab") as stream:
            stream.write(bytes(max(0, 4 * samples - stream.tell())))
        sums = np.memmap(file.with_suffix(".sums"), np.uint32, "r+", shape=(samples,))
        return cls(file.open("r+b", buffering=0), sums, starts, row_bytes)

    def read(self, index: int) -> bytes | None:
        """A sample's rows; None where they are not there."""
        if not self.sums[index]:
            return None
        begin, end = (int(self.starts[place]) * self.row_bytes for place in (index, index + 1))
        found = os.pread(self.file.fileno(), end - begin, begin)
        return found if len(found) == end - begin and _sum(found) == self.sums[index] else None

    def write(self, index: int, rows: bytes) -> None:
        os.pwrite(self.file.fileno(), rows, int(self.starts[index]) * self.row_bytes)
        self.sums[index] = _sum(rows)


def _sum(rows: bytes) -> int:
    return zlib.crc32(rows) or 1


@dataclass
class Answers:
    """The answers of a teacher to training samples.

    Attributes:
        teacher: who is asked.
        examples: the samples.
        sheets: the batch in which each of them is asked for.
        layers: indices of the hidden states that are needed.
        place: where answers are kept, if they are.
        kept: whether they are; None before one was wanted.
    """

    teacher: Teacher
    examples: Examples
    sheets: Sequence[Sequence[int]]
    layers: Sequence[int]
    place: Place
    _sheet_of: dict[int, int] = field(default_factory=dict)
    _rows: dict[str, _Rows] = field(default_factory=dict)
    kept: bool | None = None

    def __post_init__(self) -> None:
        self._sheet_of = {index: number for number, sheet in enumerate(self.sheets) for index in sheet}

    def close(self) -> None:
        """Close the files."""
        for rows in self._rows.values():
            rows.file.close()

    def of(self, indices: Sequence[int], tensors: Mapping[str, torch.Tensor]) -> TrainingOutput:
        """What the teacher says to a batch, on the processor; what it says to padding is 0.

        Args:
            indices: of the samples.
            tensors: the batch that they make.
        """
        if self.kept is None:
            self._open(tensors)
        if not self.kept:
            return self.teacher.answer(tensors, hidden_states=bool(self.layers))
        found = {index: self._read(index) for index in indices}
        asked: dict[int, dict[str, bytes]] = {}
        for number in sorted({self._sheet_of[index] for index, rows in found.items() if rows is None}):
            asked |= self._ask(self.sheets[number])
        return self._gather([found[index] or asked[index] for index in indices], tensors.get(MASK))

    def _open(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """See how large the answers are, and open their files where they are kept."""
        import numpy as np

        given = self.teacher.answer(tensors, hidden_states=bool(self.layers))
        fixed = None if MASK in tensors else given.hidden_states[0].shape[1] if self.layers else 0
        lengths = [self.examples.length(index) if fixed is None else fixed for index in range(len(self.examples))]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ones = np.arange(len(lengths) + 1, dtype=np.int64)
        sizes = {"logits": (ones, 4 * given.logits.shape[1])}
        sizes |= {f"states-{index}": (starts, 2 * given.hidden_states[index].shape[2]) for index in set(self.layers)}
        folder = self.place(sum(int(begins[-1]) * row for begins, row in sizes.values()))
        self.kept = folder is not None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._rows = {name: _Rows.open(folder / f"{name}.bin", *shape) for name, shape in sizes.items()}

    def _read(self, index: int) -> dict[str, bytes] | None:
        """A sample's answer; None where a part of it is not there."""
        found = {name: rows.read(index) for name, rows in self._rows.items()}
        whole = {name: part for name, part in found.items() if part is not None}
        return whole if len(whole) == len(found) else None

    def _ask(self, sheet: Sequence[int]) -> dict[int, dict[str, bytes]]:
        """Ask for a sheet, and keep its answers."""
        import torch

        batch = {name: torch.from_numpy(values) for name, values in self.examples.batch(sheet).items()}
        given = self.teacher.answer(batch, hidden_states=bool(self.layers))
        states = {index: given.hidden_states[index].bfloat16().view(torch.int16).numpy() for index in set(self.layers)}
        answers: dict[int, dict[str, bytes]] = {}
        for place, index in enumerate(sheet):
            answers[index] = {"logits": given.logits[place].numpy().tobytes()}
            for number, values in states.items():
                tokens = self.examples.length(index) if MASK in batch else values.shape[1]
                answers[index][f"states-{number}"] = values[place, :tokens].tobytes()
            for name, part in answers[index].items():
                self._rows[name].write(index, part)
        return answers

    def _gather(self, rows: Sequence[Mapping[str, bytes]], mask: torch.Tensor | None) -> TrainingOutput:
        """Answers of samples as those of a batch."""
        import numpy as np
        import torch

        logits = torch.from_numpy(np.stack([np.frombuffer(row["logits"], np.float32) for row in rows]))
        states: dict[int, torch.Tensor] = {}
        for index in set(self.layers):
            name = f"states-{index}"
            width = self._rows[name].row_bytes // 2
            parts = [np.frombuffer(row[name], np.int16).reshape(-1, width) for row in rows]
            padded = np.zeros((len(rows), len(parts[0]) if mask is None else mask.shape[1], width), np.int16)
            for place, part in enumerate(parts):
                padded[place, : len(part)] = part
            states[index] = torch.from_numpy(padded).view(torch.bfloat16).float()
        nothing = torch.zeros(0)
        return TrainingOutput(logits, tuple(states.get(index, nothing) for index in range(max(states, default=-1) + 1)))
