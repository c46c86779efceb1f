"""A model that was not exported, as a record: a transformers folder, or a torch artifact, pruned or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bounds import MAX_CONFIG_BYTES, check_texts, load_json
from edgekit.errors import ModelError, retelling
from edgekit.formats.plans import read_plan
from edgekit.formats.surgery import EncoderPlan
from edgekit.formats.tensors import StoredTensor, is_parameter, read_tensors
from edgekit.inspection.encoders import estimate_memory, estimate_work, find_encoder
from edgekit.inspection.records import FileRecord, NetworkRecord, PartRecord, WeightsRecord, WorkRecord
from edgekit.source import WEIGHT_SUFFIXES, weight_files
from edgekit.tasks.base import Workload

CONFIG = "config.json"
# A part that holds more than this is told by its own parts.
MOST_OF_IT = 0.9
MOST_WORDS = 4
UNKNOWN_WORK = "the network is code, and was not run; `edgekit inspect` counts it in the exported artifact"


def inspect_network(folder: Path, workload: Workload, architecture: str = "") -> NetworkRecord:
    """The network in a model folder.

    Args:
        folder: weights beside ``config.json`` (transformers) or ``module.json`` (code), and ``plan.json`` where pruned.
        workload: what estimates are for.
        architecture: its class, where no ``config.json`` says it.

    Raises:
        ModelError: the configuration or the weights cannot be read.
        ArtifactError: the plan cannot be read.
    """
    config, plan = read_config(folder), read_plan(folder)
    files = weight_files(folder)
    if not files:
        raise ModelError(
            f"{folder.name!r} has no weights",
            id="model.no-weights",
            why=f"expected files that end in {WEIGHT_SUFFIXES[0]}",
        )
    tensors = read_tensors(files)
    trained = {name: tensor for name, tensor in tensors.items() if is_parameter(name, tensor)}
    parameters = sum(tensor.elements for tensor in trained.values())
    cut = plan if isinstance(plan, EncoderPlan) else None
    with retelling(_unsuitable_config):  # the types of what it says are not checked before
        names = [str((config.get("architectures") or [architecture])[0]), str(config.get("model_type", ""))]
        check_texts(names)
        encoder = find_encoder(config, trained, cut)
        unknown = WorkRecord(macs=None, complete=False, rule="", notes=(UNKNOWN_WORK,))
        return NetworkRecord(
            architecture=names[0],
            family=names[1],
            files=tuple(FileRecord(name=file.name, size_bytes=file.stat().st_size) for file in files),
            parameters=parameters,
            weights=_weights(trained),
            parts=_parts(trained),
            encoder=encoder.record if encoder else None,
            pruned=plan.kind if plan else "",
            work=estimate_work(encoder, workload) if encoder else unknown,
            memory=estimate_memory(encoder, parameters, workload) if encoder else None,
        )


def _unsuitable_config(why: str) -> ModelError:
    return ModelError(f"{CONFIG} is no valid model configuration", id="model.invalid-config", why=why)


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json``; empty where there is none, as for a module given as code.

    Raises:
        ModelError: it cannot be read.
    """
    file = folder / CONFIG
    if not file.is_file():
        return {}
    if file.stat().st_size > MAX_CONFIG_BYTES:
        raise ModelError(
            f"{CONFIG} has {file.stat().st_size} bytes", id="model.invalid-config", why=f"allowed: {MAX_CONFIG_BYTES}"
        )
    try:
        config = load_json(file.read_bytes())
    except ValueError as error:
        raise ModelError(
            f"{CONFIG} of {folder.name!r} is not valid JSON", id="model.invalid-config", why=str(error)
        ) from error
    if not isinstance(config, dict):
        raise ModelError(
            f"{CONFIG} of {folder.name!r} is no valid model configuration",
            id="model.invalid-config",
            why="it holds no table",
        )
    return config


def _weights(trained: Mapping[str, StoredTensor]) -> tuple[WeightsRecord, ...]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tensor in trained.values():
        counts[tensor.precision] += tensor.elements
        sizes[tensor.precision] += tensor.nbytes
    return tuple(
        WeightsRecord(precision=name, parameters=count, size_bytes=sizes[name]) for name, count in counts.most_common()
    )


def _parts(trained: Mapping[str, StoredTensor]) -> tuple[PartRecord, ...]:
    """Parameters by the first words of their names; what holds nearly all of them is opened, but not into numbers."""
    total = sum(tensor.elements for tensor in trained.values())
    parts = _by_prefix(trained, 1)
    for depth in range(2, MOST_WORDS + 1):
        opened = _by_prefix(trained, depth)
        numbered = any(name.rpartition(".")[2].isdigit() for name in opened)
        if numbered or max((sum(sizes) for sizes in parts.values()), default=0) <= MOST_OF_IT * total:
            break
        parts = opened
    return tuple(PartRecord(name=name, tensors=len(sizes), parameters=sum(sizes)) for name, sizes in parts.items())


def _by_prefix(trained: Mapping[str, StoredTensor], depth: int) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    for name, tensor in trained.items():
        words = name.split(".")[:-1] or [name]
        parts.setdefault(".".join(words[:depth]), []).append(tensor.elements)
    return parts
