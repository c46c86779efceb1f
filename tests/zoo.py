"""Small modules of the shapes that channel pruning has to understand, each with an example of its input.

Weights are random but alive: batch norms get statistics near those of their inputs and scales that differ, so that a
channel cut from the wrong place shows in the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from edgekit.description import read_description
from edgekit.modules import resolve_module
from edgekit.pruning import Aim, Importance
from edgekit.tasks import bind_task, module_task
from edgekit.tasks.base import Batch, Task, TaskOptions


def conv(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


class Plain(nn.Module):
    """Convolutions in a row, then a flattened linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, 16), nn.MaxPool2d(2), conv(16, 32), nn.MaxPool2d(2), conv(32, 32))
        self.hidden = nn.Linear(32 * 4 * 4, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(functional.relu(self.hidden(self.features(images).flatten(1))))


class Residual(nn.Module):
    """Two blocks that share one stream, a projection to a wider one, and a block there."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.inner = nn.ModuleList([nn.Sequential(conv(16, 24), nn.Conv2d(24, 16, 3, padding=1)) for _ in range(2)])
        self.project = nn.Conv2d(16, 32, 1, 2, bias=False)
        self.wide = nn.Sequential(conv(16, 32, stride=2), nn.Conv2d(32, 32, 3, padding=1))
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stream = self.stem(images)
        for block in self.inner:
            stream = functional.relu(stream + block(stream))
        stream = functional.relu(self.project(stream) + self.wide(stream))
        return self.head(stream.mean((2, 3)))


class Inception(nn.Module):
    """Branches of different kernels, concatenated twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 32)
        self.first = nn.ModuleList([conv(32, 16, 1), conv(32, 32, 3), conv(32, 16, 5)])
        self.second = nn.ModuleList([conv(64, 32, 1), conv(64, 32, 3)])
        self.head = nn.Linear(64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(images)
        for branches in (self.first, self.second):
            hidden = torch.cat([branch(hidden) for branch in branches], dim=1)
        return self.head(hidden.mean((2, 3)))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions, as MobileNet has them, with one inverted residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.first = nn.Sequential(conv(16, 16, groups=16), conv(16, 32, 1))
        self.expand = nn.Sequential(conv(32, 64, 1), conv(64, 64, groups=64), nn.Conv2d(64, 32, 1))
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.first(self.stem(images))
        hidden = hidden + self.expand(hidden)
        return self.head(hidden.mean((2, 3)))


class Dense(nn.Module):
    """Each layer reads all before it, as DenseNet has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.layers = nn.ModuleList([conv(16 + 8 * index, 8) for index in range(4)])
        self.transition = conv(48, 24, 1)
        self.head = nn.Linear(24, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(images)
        for layer in self.layers:
            hidden = torch.cat([hidden, layer(hidden)], dim=1)
        return self.head(self.transition(hidden).mean((2, 3)))


class Grouped(nn.Module):
    """A grouped convolution between two others, as ResNeXt has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 32)
        self.grouped = conv(32, 32, groups=4)
        self.point = conv(32, 32, 1)
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.point(self.grouped(self.stem(images))).mean((2, 3)))


class Perceptron(nn.Module):
    """Linear layers with a batch norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 64), nn.BatchNorm1d(64), nn.GELU(), nn.Linear(64, 48), nn.Sigmoid(), nn.Linear(48, 5)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)


class Tagger(nn.Module):
    """An LSTM with a label at each step; what feeds it and what it hands on are coupled through its gates."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.recurrent = nn.LSTM(16, 32, batch_first=True)
        self.hidden = nn.Linear(32, 64)
        self.head = nn.Linear(64, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states, _ = self.recurrent(self.embedding(tokens))
        return self.head(functional.relu(self.hidden(states)))


class Padded(nn.Module):
    """A residual whose shortcut fills new channels with zeros on both sides, as ResNet-20 has it: a trace is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.inner = conv(16, 32)
        self.outer = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        stream = self.stem(images)
        stream = functional.relu(functional.pad(stream, (0, 0, 0, 0, 8, 8)) + self.outer(self.inner(stream)))
        return self.head(stream.mean((2, 3)))


class Shuffled(nn.Module):
    """Channels change places between two convolutions, as ShuffleNet has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.last = conv(16, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.stem(images).unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)
        return self.head(self.last(hidden).mean((2, 3)))


class Flipped(nn.Module):
    """Channels in the reverse order between two convolutions: a trace of it is wrong, and cut by it, it still runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.last = conv(16, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.stem(images).flip(1)).mean((2, 3)))


class Upsampled(nn.Module):
    """Down and up again by a transposed convolution, with a shortcut, as U-Net has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.down = conv(16, 24, stride=2)
        self.up = nn.ConvTranspose2d(24, 16, 2, 2)
        self.last = conv(32, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        fine = self.stem(images)
        return self.head(self.last(torch.cat([fine, self.up(self.down(fine))], dim=1)).mean((2, 3)))


class Squeezed(nn.Module):
    """Channels weighed by a gate that is made of them (squeeze and excitation), and batch norm before activation."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(3, 20, 5, padding=2)
        self.norm = nn.BatchNorm2d(32)
        self.down, self.up = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.last = conv(32, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.norm(torch.cat([self.left(images), self.right(images)], dim=1)))
        gate = torch.sigmoid(self.up(functional.relu(self.down(hidden.mean((2, 3), keepdim=True)))))
        return self.head(self.last(hidden * gate).mean((2, 3)))


class Signal(nn.Module):
    """Convolutions over time, activations with weights of their own, flattened at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(4, 16, 5, 2), nn.BatchNorm1d(16)
        self.one, self.many = nn.PReLU(), nn.PReLU(24)
        self.second = nn.Conv1d(16, 24, 3, 2)
        self.head = nn.Linear(24 * 8, 5)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        hidden = self.one(self.norm(self.first(signal)))
        return self.head(self.many(self.second(hidden)).flatten(1))


class Normed(nn.Module):
    """A norm over several channels and a scale for each: neither can be cut, and what feeds them stays whole."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.scaled = nn.Conv2d(16, 16, 3, padding=1)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 16)[:, None, None])
        self.last = conv(16, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.scaled(functional.relu(self.norm(self.stem(images)))) * self.scale
        return self.head(self.last(hidden).mean((2, 3)))


IMAGE = (3, 16, 16)
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], torch.dtype]] = {
    "plain": (Plain, IMAGE, torch.float32),
    "residual": (Residual, IMAGE, torch.float32),
    "inception": (Inception, IMAGE, torch.float32),
    "separable": (Separable, IMAGE, torch.float32),
    "dense": (Dense, IMAGE, torch.float32),
    "grouped": (Grouped, IMAGE, torch.float32),
    "perceptron": (Perceptron, (12,), torch.float32),
    "tagger": (Tagger, (10,), torch.int64),
    "padded": (Padded, IMAGE, torch.float32),
    "shuffled": (Shuffled, IMAGE, torch.float32),
    "flipped": (Flipped, IMAGE, torch.float32),
    "upsampled": (Upsampled, IMAGE, torch.float32),
    "squeezed": (Squeezed, IMAGE, torch.float32),
    "signal": (Signal, (4, 40), torch.float32),
    "normed": (Normed, IMAGE, torch.float32),
}


def make(name: str) -> nn.Module:
    """A seeded module of the zoo, alive, in evaluation mode."""
    torch.manual_seed(sum(map(ord, name)))
    model = ZOO[name][0]()
    norms = [layer for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for layer in norms:
        layer.weight.data.uniform_(0.5, 1.5)
        layer.bias.data.normal_(0, 0.3)
        layer.momentum = 1.0
    with torch.no_grad():
        model(**example(name, 64))
    for layer in norms:
        layer.running_mean.add_(torch.randn_like(layer.running_mean) * 0.1)
        layer.running_var.mul_(torch.rand_like(layer.running_var) + 0.5)
        layer.momentum = 0.1
    return model.eval()


def example(name: str, batch: int = 3) -> dict[str, torch.Tensor]:
    """A seeded input by the argument's name."""
    _, shape, dtype = ZOO[name]
    generator = torch.Generator().manual_seed(7)
    if dtype == torch.int64:
        return {"tokens": torch.randint(0, 30, (batch, *shape), generator=generator)}
    return {("features", "signal", "images")[len(shape) - 1]: torch.randn(batch, *shape, generator=generator)}


def task_of(build: Callable[[], nn.Module], shape: str) -> Task:
    """The task of a module that takes ``shape``, batch first."""
    source, again = resolve_module(build, {"input": shape}, None)
    folder = Path(source.path)
    return bind_task(module_task(read_description(folder)), folder, TaskOptions(), again)


def aim(task: Task, batches: Sequence[Batch] = (), importance: Importance = "taylor", **changes: float) -> Aim:
    """What pruning is asked for: half of everything, if nothing else is said."""
    return Aim(
        ratio=changes.get("ratio", 0.5),
        layers=1.0,
        floor=changes.get("floor", 0.2),
        multiple=int(changes.get("multiple", 8)),
        importance=importance,
        tokens=1,
        task=task,
        batches=lambda what: iter(batches),
    )
