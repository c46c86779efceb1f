"""A model given as code: a function that returns a torch module, and its weights.

The function is named ``file.py:function`` or ``package.module:function``; from Python, an instance does as well. What
everything else works on is a folder like a transformers one: ``model.safetensors``, and ``module.json``, which says
how the module is fed. Code is run only where the user named it: nothing in a folder is ever imported by itself.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pydantic import Field, ValidationError, model_validator

from edgekit.artifact import write_text
from edgekit.cache import Cache, cache_key
from edgekit.checkpoint import first_lines, load_checkpoint
from edgekit.errors import ModelError, UnknownNameError, UsageError
from edgekit.settings import Frozen, parse_toml, read_bounded
from edgekit.source import MODULE, Source, sha256_file

if TYPE_CHECKING:
    import torch
    from torch import nn

Build = Callable[[], "nn.Module"]
WEIGHTS = "model.safetensors"
IMAGE_CHANNELS = (1, 3)
MAX_MODULE_BYTES = 1024 * 1024


class Pixels(Frozen):
    """How an image becomes the numbers that a module reads: resized, cropped, scaled, normalized, in this order.

    Attributes:
        shorter: the shorter side is resized to this and the centre cropped; None resizes to the input's size.
        resample: how pixels are interpolated.
        scale: factor of the pixels from 0 to 255.
        mean, std: of each channel, after scaling.
    """

    schema_: Literal["edgekit.pixels/1"] = Field("edgekit.pixels/1", alias="schema")
    shorter: int | None = Field(None, ge=1)
    resample: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    scale: float = Field(1 / 255, gt=0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @model_validator(mode="after")
    def _fits(self) -> Pixels:
        if len(self.mean) != len(self.std) or len(self.mean) not in IMAGE_CHANNELS:
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}; allowed: 1 or 3 each")
        if min(self.std) <= 0:
            raise ValueError("std has to be above 0")
        return self


class TensorInput(Frozen):
    """The module's one input: name of the argument, shape without the batch, type."""

    name: str
    shape: tuple[int, ...] = Field(min_length=1)
    dtype: Literal["float32", "int64"] = "float32"


class Description(Frozen):
    """``module.json``: what has to be known of a module to feed it and to read its answers.

    Attributes:
        entry: file and function that build it, without a path.
        input: what it takes.
        output: shape of its logits, without the batch; classes last.
        labels: names of the classes.
        pixels: how an image becomes the input; None where the input is no image.
    """

    schema_: Literal["edgekit.module/1"] = Field("edgekit.module/1", alias="schema")
    entry: str
    input: TensorInput
    output: tuple[int, ...] = Field(min_length=1)
    labels: tuple[str, ...]
    pixels: Pixels | None = None


class Feeding(TypedDict, total=False):
    """What the user says of a module beside its code.

    Attributes:
        weights: safetensors, or a checkpoint that torch reads without running code; those of the function by default.
        input: ``1x3x32x32``, batch first; ``1x16:int64`` for numbers of tokens; an example of the data by default.
        mean, std: of each channel, after scaling to 0..1.
        preprocess: TOML file with the fields of ``Pixels``.
    """

    weights: str | Path | None
    input: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    preprocess: str | Path | None


@dataclass(frozen=True)
class Sample:
    """What the data says of the input and the answers.

    Attributes:
        shape: of one sample, without the batch.
        dtype: of it.
        classes: names of the classes, where the data has any.
    """

    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"]
    classes: tuple[str, ...] = ()


def names_code(location: object) -> bool:
    """Whether a source is code: ``file.py:function``, ``package.module:function``, or something to call."""
    if not isinstance(location, (str, Path)):
        return True
    place, colon, function = str(location).rpartition(":")
    return bool(colon) and function.isidentifier() and (place.endswith(".py") or _is_dotted(place))


def resolve_module(
    location: Any, feeding: Feeding, sample: Sample | None, cache: Cache | None = None
) -> tuple[Source, Build]:
    """Build the module once, load its weights, and leave it as a folder in the cache.

    Args:
        location: the function's name, the function, or a module.
        feeding: what the user said of it.
        sample: what the data says of its input; None without data.
        cache: where the folder goes.

    Raises:
        ModelError: it cannot be built, loaded, or run on its input.
        UsageError: what it takes is not known.
    """
    from safetensors.torch import save_model

    entry, build, code = _find(location)
    module = _call(build, entry)
    if (weights := feeding.get("weights")) is not None:
        _load_weights(module, Path(weights).expanduser())
    described = _describe(module, entry, feeding, sample)
    store = cache or Cache()
    folder = store.scratch()
    save_model(module, str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    write_text(folder / MODULE, described.model_dump_json(by_alias=True, indent=1) + "\n")
    digest = hashlib.sha256(f"{code} {sha256_file(folder / WEIGHTS)} {sha256_file(folder / MODULE)}".encode())
    size = (folder / WEIGHTS).stat().st_size
    kept = store.put(cache_key("module", digest.hexdigest()), folder)
    return Source(
        location=entry,
        kind="module",
        path=str(kept),
        architecture=type(module).__name__,
        model_type="module",
        digest=digest.hexdigest(),
        size_bytes=size,
    ), build


def read_description(folder: Path) -> Description:
    """``module.json`` of a folder.

    Raises:
        ModelError: it cannot be read.
    """
    file = folder / MODULE
    if file.stat().st_size > MAX_MODULE_BYTES:
        raise ModelError(f"{MODULE} has {file.stat().st_size} bytes", why=f"allowed: {MAX_MODULE_BYTES}")
    try:
        return Description.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{MODULE} is not valid", why=f"{first['loc']}: {first['msg']}") from error


def load_state(module: nn.Module, file: Path) -> None:
    """Load a module's tensors from safetensors, every one of them."""
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(module, str(file))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ModelError(f"the weights in {file.name!r} do not fit the module", why=first_lines(error)) from error


def code_entry(location: str) -> tuple[str, Build]:
    """The function of ``file.py:function``, under its name without a path."""
    entry, build, _ = _find(location)
    return entry, build


def _is_dotted(place: str) -> bool:
    return all(part.isidentifier() for part in place.split("."))


def _find(location: Any) -> tuple[str, Build, str]:
    """The entry's name, the function, and a digest of the code that it stands in."""
    from torch import nn

    if isinstance(location, nn.Module):
        template = location
        code = f"{_code_of(type(template))} {template!r}"
        return type(template).__name__, lambda: copy.deepcopy(template), hashlib.sha256(code.encode()).hexdigest()
    if not isinstance(location, (str, Path)):
        if not callable(location):
            raise UsageError(
                f"a model cannot be a {type(location).__name__}",
                why="allowed: a folder, a hub id, file.py:function, an nn.Module, or a function that returns one",
            )
        return location.__name__, location, _code_of(location)
    place, _, name = str(location).rpartition(":")
    home = _import_file(Path(place).expanduser()) if place.endswith(".py") else _import_module(place)
    found = getattr(home, name, None)
    if not callable(found):
        raise UnknownNameError(
            f"function in {place!r}", name, [key for key, value in vars(home).items() if callable(value)]
        )
    return f"{Path(place).name}:{name}", found, _code_of(found)


def _code_of(thing: Any) -> str:
    """sha256 of the file that a function or class stands in; of its name where there is none."""
    try:
        return sha256_file(Path(inspect.getfile(thing)))
    except (TypeError, OSError):
        return hashlib.sha256(getattr(thing, "__qualname__", repr(thing)).encode()).hexdigest()


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModelError(f"there is no file {str(path)!r}", hint="Give it as file.py:function.")
    name = f"edgekit_model_{sha256_file(path)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))  # for imports of its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ModelError(f"{str(path)!r} cannot be imported", why=f"{type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"there is no module {name!r} to import",
            why=str(error),
            hint="Name a file instead: path/to/file.py:function.",
        ) from error


def _call(build: Build, entry: str) -> nn.Module:
    from torch import nn

    try:
        module = build()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{entry} could not be called without arguments", why=f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{entry} gives a {type(module).__name__}", why="allowed: a torch.nn.Module")
    return module.float().eval()


def _load_weights(module: nn.Module, file: Path) -> None:
    """Load a user's checkpoint; a prefix or wrapper that trainers leave around it is taken off."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise ModelError(f"there is no file of weights {str(file)!r}")
    try:
        tensors = load_file(file) if file.suffix == ".safetensors" else load_checkpoint(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"the weights in {file.name!r} are not valid safetensors", why=str(error)) from error
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    missing, unexpected = module.load_state_dict(_fitting(module, tensors), strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ModelError(
            f"the weights in {file.name!r} do not fit the module",
            why="; ".join(
                f"{what}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
                for what, names in (("missing", missing), ("not in the module", unexpected))
                if names
            ),
        )


def _fitting(module: nn.Module, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    mine = module.state_dict()
    for name, value in tensors.items():
        if name in mine and mine[name].shape != value.shape:
            raise ModelError(
                f"the weights for {name!r} have the shape {list(value.shape)}",
                why=f"the module's: {list(mine[name].shape)}",
            )
    return tensors


def _describe(module: nn.Module, entry: str, feeding: Feeding, sample: Sample | None) -> Description:
    import torch

    name = _argument(module, entry)
    said = feeding.get("input")
    shape, dtype = parse_input(said) if said else _seen(sample)
    example = torch.zeros(2, *shape) if dtype == "float32" else torch.zeros(2, *shape, dtype=torch.int64)
    try:
        with torch.no_grad():
            answer = module(**{name: example})
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{entry} does not run on an input of {'x'.join(map(str, (2, *shape)))} {dtype}",
            why=f"{type(error).__name__}: {first_lines(error)}",
            hint="Give the input's shape with --input 1x3x32x32.",
        ) from error
    if not isinstance(answer, torch.Tensor) or answer.ndim < 2 or answer.shape[0] != 2:
        given = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ModelError(
            f"{entry} gives {given} for two samples", why="allowed: one tensor of logits [batch, ..., classes]"
        )
    classes = int(answer.shape[-1])
    named = sample.classes if sample is not None and len(sample.classes) == classes else ()
    return Description(
        entry=entry,
        input=TensorInput(name=name, shape=shape, dtype=dtype),
        output=tuple(answer.shape[1:]),
        labels=named or tuple(f"LABEL_{index}" for index in range(classes)),
        pixels=_pixels(shape, feeding),
    )


def parse_input(text: str) -> tuple[tuple[int, ...], Literal["float32", "int64"]]:
    """``1x3x32x32`` or ``1x16:int64``: shape without the batch, and type."""
    numbers, _, dtype = text.partition(":")
    parts = numbers.lower().split("x")
    if (
        len(parts) < 2
        or not all(part.isdigit() and int(part) > 0 for part in parts)
        or dtype not in ("", "float32", "int64")
    ):
        raise UsageError(f"{text!r} is no shape of an input", why="allowed: batch first, as in 1x3x32x32 or 1x16:int64")
    return tuple(int(part) for part in parts[1:]), "int64" if dtype == "int64" else "float32"


def _seen(sample: Sample | None) -> tuple[tuple[int, ...], Literal["float32", "int64"]]:
    if sample is None:
        raise UsageError(
            "it is not known what the module takes",
            why="neither --input nor data to take an example from was given",
            hint="Give the shape of one batch: --input 1x3x32x32.",
        )
    return sample.shape, sample.dtype


def _argument(module: nn.Module, entry: str) -> str:
    """Name of the one argument that ``forward`` needs."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    needed = [item for item in parameters if item.default is item.empty and item.kind is item.POSITIONAL_OR_KEYWORD]
    if len(needed) != 1:
        raise ModelError(
            f"the forward of {entry} needs {len(needed)} arguments", why="allowed: one tensor [batch, ...]"
        )
    return needed[0].name


def _pixels(shape: tuple[int, ...], feeding: Feeding) -> Pixels | None:
    """How images are prepared, where the input is one."""
    image = len(shape) == 3 and shape[0] in IMAGE_CHANNELS
    preprocess, mean, std = feeding.get("preprocess"), feeding.get("mean"), feeding.get("std")
    if not image:
        if (preprocess, mean, std) != (None, None, None):
            raise UsageError(
                f"--mean, --std and --preprocess are for images, and the input is {'x'.join(map(str, shape))}",
                why="an image is 1 or 3 channels, height and width",
            )
        return None
    pixels = Pixels()
    if preprocess is not None:
        file = Path(preprocess).expanduser()
        if not file.is_file():
            raise UsageError(f"there is no pre-processing file {str(file)!r}")
        pixels = parse_toml(Pixels, read_bounded(file, "pre-processing"), f"pre-processing {str(file)!r}")
    values = {name: tuple(value) for name, value in (("mean", mean), ("std", std)) if value is not None}
    try:
        pixels = Pixels.model_validate(pixels.model_dump(by_alias=True) | values)
    except ValidationError as error:
        raise UsageError("--mean and --std do not fit each other", why=str(error.errors()[0]["msg"])) from error
    if len(pixels.mean) not in (1, shape[0]):
        raise UsageError(f"--mean has {len(pixels.mean)} values", why=f"the input has {shape[0]} channels")
    return pixels
