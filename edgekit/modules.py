"""A model given as code: a function that returns a torch module, and its weights.

The function is named ``file.py:function`` or ``package.module:function``; from Python, an instance does as well. What
everything else works on is a folder like a transformers one: ``model.safetensors``, and ``module.json``, which says
how the module is fed. Code is run only where the user named it: nothing in a folder is ever imported by itself.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from pydantic import Field, ValidationError, model_validator

from edgekit.artifact import State, TensorSpec, write_text
from edgekit.cache import Cache, cache_key
from edgekit.checkpoint import WEIGHTS, first_lines, load_weights, save_state
from edgekit.errors import ModelError, UnknownNameError, UsageError
from edgekit.settings import Frozen, parse_toml, read_bounded
from edgekit.source import MODULE, Source, sha256_file

if TYPE_CHECKING:
    from torch import nn

Build = Callable[[], "nn.Module"]
Layout = Literal["NCHW", "NHWC"]
LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC")
IMAGE_CHANNELS = (1, 3)
MAX_MODULE_BYTES = 1024 * 1024
# Under which name a file of the user's is imported; its digest follows.
FILE_MODULE = "edgekit_model_"


class Pixels(Frozen):
    """How an image becomes the numbers that a module reads: resized, cropped, scaled, normalized, in this order.

    Attributes:
        shorter: the shorter side is resized to this and the centre cropped; None resizes to the input's size.
        resample: how pixels are interpolated.
        scale: factor of the pixels from 0 to 255.
        mean, std: of each channel, after scaling.
        layout: order of the input's axes: channels before height and width, or after them.
    """

    schema_: Literal["edgekit.pixels/1"] = Field("edgekit.pixels/1", alias="schema")
    shorter: int | None = Field(None, ge=1)
    resample: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    scale: float = Field(1 / 255, gt=0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Layout = "NCHW"

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


class Signature(Frozen):
    """What a graph of others takes and gives; free dimensions have names.

    Attributes:
        inputs: in order, states among them.
        outputs: in order, states among them.
        states: outputs that become inputs of the next call.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[State, ...] = ()


class Description(Frozen):
    """``module.json``: what has to be known of a module, or of a graph of others, to feed it and to read its answers.

    Attributes:
        entry: file and function that build it, without a path; of a graph, its file.
        input: what it takes; None for a graph that is fed by the names of its inputs.
        output: shape of its logits, without the batch; classes last. Empty where they are no scores of classes.
        labels: names of the classes.
        pixels: how an image becomes the input; None where the input is no image.
        graph: of an ``.onnx`` file, what it takes and gives.
        answer: name of the output that holds the logits.
        probabilities: whether they went through a softmax already.
    """

    schema_: Literal["edgekit.module/1"] = Field("edgekit.module/1", alias="schema")
    entry: str
    input: TensorInput | None
    output: tuple[int, ...]
    labels: tuple[str, ...]
    pixels: Pixels | None = None
    graph: Signature | None = None
    answer: str = "logits"
    probabilities: bool = False

    @property
    def only_input(self) -> TensorInput:
        """The one input.

        Raises:
            ModelError: it is fed by the names of several.
        """
        if self.input is None:
            raise ModelError(
                f"{self.entry} is fed by the names of its inputs, and this task feeds one",
                id="model.wrong-task",
                hint="Use --task tensors.",
            )
        return self.input


class Feeding(TypedDict, total=False):
    """What the user says of a module beside its code, or of an ``.onnx`` file.

    Attributes:
        weights: safetensors, or a checkpoint that torch reads without running code; those of the function by default.
        input: ``1x3x32x32``, batch first; ``1x16:int64`` for numbers of tokens; an example of the data by default.
        mean, std: of each channel, after scaling to 0..1.
        preprocess: TOML file with the fields of ``Pixels``.
        layout: ``NCHW`` or ``NHWC``: where an image's channels are.
        labels: names of the classes, in their order.
        state: of an ``.onnx`` file, ``OUT:IN``: outputs that become inputs of the next call.
    """

    weights: str | Path | None
    input: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    preprocess: str | Path | None
    layout: str | None
    labels: tuple[str, ...] | None
    state: tuple[str, ...] | None


@dataclass(frozen=True)
class Sample:
    """What the data says of the input and the answers.

    Attributes:
        shape: of one sample, without the batch.
        dtype: of it.
        classes: names of the classes, where the data has any.
        image: whether it is an image: the shape is then channels, height and width.
    """

    shape: tuple[int, ...]
    dtype: Literal["float32", "int64"]
    classes: tuple[str, ...] = ()
    image: bool = False


def names_code(location: object) -> bool:
    """Whether a source is code: ``file.py:function``, ``package.module:function``, or something to call."""
    if not isinstance(location, (str, Path)):
        return True
    place, colon, function = str(location).rpartition(":")
    return bool(colon) and function.isidentifier() and (place.endswith(".py") or _is_dotted(place))


def resolve_module(
    location: Any, feeding: Feeding, known: Sample | Description | None, cache: Cache | None = None
) -> tuple[Source, Build]:
    """Build the module once, load its weights, and leave it as a folder in the cache.

    Args:
        location: the function's name, the function, or a module.
        feeding: what the user said of it.
        known: what the data says of its input, or the description of a module that it is fed as; None without either.
        cache: where the folder goes.

    Raises:
        ModelError: it cannot be built, loaded, or run on its input.
        UsageError: what it takes is not known.
    """
    entry, build, code = _find(location)
    if feeding.get("state"):
        raise UsageError(
            f"--state was given for {entry}, which is no .onnx file",
            id="usage.options-conflict",
            why="only a graph of others has states that have to be named",
        )
    module = build_module(build, entry)
    if (weights := feeding.get("weights")) is not None:
        load_weights(module, Path(weights).expanduser())
    described = _describe(module, entry, feeding, known)
    store = cache or Cache()
    folder = store.scratch()
    save_state(module, folder / WEIGHTS)
    write_text(folder / MODULE, described.model_dump_json(by_alias=True, indent=1) + "\n")
    code = " ".join([code, *_class_files(module)])
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
        raise ModelError(
            f"{MODULE} has {file.stat().st_size} bytes", id="model.invalid-config", why=f"allowed: {MAX_MODULE_BYTES}"
        )
    try:
        return Description.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(
            f"{MODULE} is not valid", id="model.invalid-config", why=f"{first['loc']}: {first['msg']}"
        ) from error


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
        return type(location).__name__, lambda: location, hashlib.sha256(repr(location).encode()).hexdigest()
    if not isinstance(location, (str, Path)):
        if not callable(location):
            raise UsageError(
                f"a model cannot be a {type(location).__name__}",
                id="usage.not-a-model",
                why="allowed: a folder, a hub id, file.py:function, an nn.Module, or a function that returns one",
            )
        return getattr(location, "__name__", type(location).__name__), location, _code_of(location)
    place, _, name = str(location).rpartition(":")
    file = Path(place).expanduser() if place.endswith(".py") else None
    folder = file.resolve().parent if file else Path.cwd()
    home = _import_file(file, folder) if file else _import_module(place, folder)
    found = getattr(home, name, None)
    if not callable(found):
        raise UnknownNameError(
            f"function in {place!r}",
            name,
            [key for key, value in vars(home).items() if callable(value)],
            id="unknown-name.function",
        )

    def build() -> nn.Module:
        with _on_path(folder):  # it may import its neighbours when it is called
            built: nn.Module = found()
            return built

    return f"{Path(place).name}:{name}", build, _code_of(found)


def _code_of(thing: Any) -> str:
    """sha256 of the file that a function or class stands in; of its name where there is none."""
    try:
        return sha256_file(Path(inspect.getfile(thing)))
    except (TypeError, OSError):
        return hashlib.sha256(getattr(thing, "__qualname__", repr(thing)).encode()).hexdigest()


def _class_files(module: nn.Module) -> list[str]:
    """sha256 of the files in which the classes of a module and its parts stand, but for torch's own."""
    kinds = {type(part) for part in module.modules()}
    return sorted({_code_of(kind) for kind in kinds if kind.__module__.partition(".")[0] != "torch"})


@contextlib.contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    """What lies in a folder can be imported, before anything else of the same name."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _import_file(file: Path, folder: Path) -> ModuleType:
    if not file.is_file():
        raise ModelError(f"there is no file {str(file)!r}", id="model.missing", hint="Give it as file.py:function.")
    name = f"{FILE_MODULE}{hashlib.sha256(f'{file.resolve()} {sha256_file(file)}'.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _forget_neighbours(folder)
    sys.modules[name] = module
    try:
        with _on_path(folder):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ModelError(
            f"{str(file)!r} cannot be imported", id="model.code-fails", why=f"{type(error).__name__}: {error}"
        ) from error
    return module


def _forget_neighbours(folder: Path) -> None:
    """Forget what files of other folders have imported beside them, where this folder has a file of the same name."""
    others = {
        Path(module.__file__).resolve().parent
        for name, module in sys.modules.items()
        if name.startswith(FILE_MODULE) and module.__file__
    } - {folder}
    for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py")):
        name = path.parent.name if path.name == "__init__.py" else path.stem
        place = getattr(sys.modules.get(name), "__file__", None)
        home = Path(place).resolve().parent if place else None
        if home is not None and (home.parent if Path(str(place)).name == "__init__.py" else home) in others:
            for part in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
                del sys.modules[part]


def _import_module(name: str, folder: Path) -> ModuleType:
    try:
        with _on_path(folder):
            return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"there is no module {name!r} to import",
            id="model.missing",
            why=str(error),
            hint="Name a file instead: path/to/file.py:function.",
        ) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise ModelError(
            f"{name!r} cannot be imported", id="model.code-fails", why=f"{type(error).__name__}: {error}"
        ) from error


def build_module(build: Build, entry: str) -> nn.Module:
    """A fresh module, float32, in evaluation mode: a copy, since a function may return the same one each time.

    Raises:
        ModelError: it cannot be built, or is no module.
    """
    from torch import nn

    try:
        module = copy.deepcopy(build())
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{entry} could not be called without arguments",
            id="model.code-fails",
            why=f"{type(error).__name__}: {error}",
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{entry} gives a {type(module).__name__}", id="model.unsuitable-code", why="allowed: a torch.nn.Module"
        )
    return module.float().eval()


def _describe(module: nn.Module, entry: str, feeding: Feeding, known: Sample | Description | None) -> Description:
    import torch

    name = _argument(module, entry)
    said = feeding.get("input")
    shape, dtype = parse_input(said) if said else _seen(known, read_layout(feeding))
    example = torch.zeros(2, *shape) if dtype == "float32" else torch.zeros(2, *shape, dtype=torch.int64)
    try:
        with torch.no_grad():
            answer = module(**{name: example})
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{entry} does not run on an input of {'x'.join(map(str, (2, *shape)))} {dtype}",
            id="model.code-fails",
            why=f"{type(error).__name__}: {first_lines(error)}",
            hint="Give the input's shape with --input 1x3x32x32.",
        ) from error
    if not isinstance(answer, torch.Tensor) or answer.ndim < 2 or answer.shape[0] != 2:
        given = list(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        raise ModelError(
            f"{entry} gives {given} for two samples",
            id="model.unsuitable-code",
            why="allowed: one tensor of logits [batch, ..., classes]",
        )
    classes = int(answer.shape[-1])
    seen = known.labels if isinstance(known, Description) else known.classes if known else ()
    return Description(
        entry=entry,
        input=TensorInput(name=name, shape=shape, dtype=dtype),
        output=tuple(answer.shape[1:]),
        labels=class_names(feeding.get("labels"), seen, classes),
        pixels=known.pixels if isinstance(known, Description) else read_pixels(shape, feeding, read_layout(feeding)),
    )


def class_names(said: Sequence[str] | None, seen: Sequence[str], classes: int) -> tuple[str, ...]:
    """Names of so many classes: the user's, else the data's where they are as many, else numbered.

    Raises:
        UsageError: the user gave another number of them.
    """
    if said is not None and len(said) != classes:
        raise UsageError(
            f"--labels has {len(said)} names", id="usage.bad-value", why=f"the model's answers are {classes} classes"
        )
    named = said if said is not None else seen if len(seen) == classes else ()
    return tuple(named) or tuple(f"LABEL_{index}" for index in range(classes))


def read_layout(feeding: Feeding) -> Layout | None:
    """Where an image's channels are, as the user said it; None where nothing was said.

    Raises:
        UsageError: it is no layout.
    """
    said = feeding.get("layout")
    if said is None:
        return None
    found = next((layout for layout in LAYOUTS if layout == said.upper()), None)
    if found is None:
        raise UsageError(
            f"--layout {said!r} is no order of an image's axes",
            id="usage.bad-value",
            why=f"allowed: {', '.join(LAYOUTS)} (N the batch, C channels, H height, W width)",
        )
    return found


def parse_input(text: str) -> tuple[tuple[int, ...], Literal["float32", "int64"]]:
    """``1x3x32x32`` or ``1x16:int64``: shape without the batch, and type."""
    numbers, _, dtype = text.partition(":")
    parts = numbers.lower().split("x")
    if (
        len(parts) < 2
        or not all(part.isdigit() and int(part) > 0 for part in parts)
        or dtype not in ("", "float32", "int64")
    ):
        raise UsageError(
            f"{text!r} is no shape of an input",
            id="usage.bad-value",
            why="allowed: batch first, as in 1x3x32x32 or 1x16:int64",
        )
    return tuple(int(part) for part in parts[1:]), "int64" if dtype == "int64" else "float32"


def _seen(
    known: Sample | Description | None, layout: Layout | None
) -> tuple[tuple[int, ...], Literal["float32", "int64"]]:
    if known is None:
        raise UsageError(
            "it is not known what the module takes",
            id="usage.input-unknown",
            why="neither --input nor data to take an example from was given",
            hint="Give the shape of one batch: --input 1x3x32x32.",
        )
    seen = known.only_input if isinstance(known, Description) else known
    if isinstance(known, Sample) and known.image and layout == "NHWC":
        return (*known.shape[1:], known.shape[0]), known.dtype
    return seen.shape, seen.dtype


def _argument(module: nn.Module, entry: str) -> str:
    """Name of the one argument that ``forward`` needs."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [item for item in parameters if item.default is item.empty and item.kind in named]
    if len(needed) != 1:
        raise ModelError(
            f"the forward of {entry} needs {len(needed)} arguments",
            id="model.unsuitable-code",
            why="allowed: one tensor [batch, ...]",
        )
    return needed[0].name


def find_layout(shape: Sequence[int], said: Layout | None) -> Layout | None:
    """Where the channels of an input are: as it was said, else before height and width where that can be, else after.

    Args:
        shape: of one sample.
        said: by the user.

    Returns:
        None where the input is no image of this layout.
    """
    if len(shape) != 3:
        return None
    fitting = [layout for layout in LAYOUTS if shape[0 if layout == "NCHW" else -1] in IMAGE_CHANNELS]
    return next((layout for layout in fitting if said in (None, layout)), None)


def read_pixels(shape: tuple[int, ...], feeding: Feeding, said: Layout | None = None) -> Pixels | None:
    """How images are prepared; None where the input is no image.

    Raises:
        UsageError: the input is no image, and something was said of images; or what was said does not fit.
    """
    preprocess, mean, std = feeding.get("preprocess"), feeding.get("mean"), feeding.get("std")
    pixels = Pixels() if preprocess is None else _read_preprocessing(Path(preprocess).expanduser())
    wanted = said or pixels.layout
    if find_layout(shape, wanted) is None:
        if (preprocess, mean, std, said) != (None, None, None, None):
            given = "x".join(map(str, shape))
            raise UsageError(
                f"--mean, --std, --layout and --preprocess are for images, and the input is {given}",
                id="usage.preprocessing",
                why=f"an image is 1 or 3 channels, height and width, its channels where {wanted} has them",
                hint="Where the channels come last, say --layout NHWC.",
            )
        return None
    values = {name: tuple(value) for name, value in (("mean", mean), ("std", std)) if value is not None}
    try:
        pixels = Pixels.model_validate(pixels.model_dump(by_alias=True) | values | {"layout": wanted})
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise UsageError("--mean and --std do not fit each other", id="usage.preprocessing", why=reason) from error
    channels = shape[0 if wanted == "NCHW" else -1]
    if len(pixels.mean) not in (1, channels):
        raise UsageError(
            f"--mean has {len(pixels.mean)} values", id="usage.preprocessing", why=f"the input has {channels} channels"
        )
    return pixels


def _read_preprocessing(file: Path) -> Pixels:
    if not file.is_file():
        raise UsageError(f"there is no pre-processing file {str(file)!r}", id="usage.no-file")
    return parse_toml(Pixels, read_bounded(file, "pre-processing"), f"pre-processing {str(file)!r}")
