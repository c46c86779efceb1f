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
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from edgekit.artifact import write_text
from edgekit.cache import Cache, cache_key, folders_in
from edgekit.checkpoint import WEIGHTS, first_lines, load_weights, save_state
from edgekit.description import (
    Description,
    Feeding,
    Layout,
    Sample,
    TensorInput,
    class_names,
    parse_input,
    read_layout,
    read_pixels,
)
from edgekit.errors import ModelError, UnknownNameError, UsageError
from edgekit.source import MODULE, Source, sha256_file

if TYPE_CHECKING:
    from torch import nn

Build = Callable[[], "nn.Module"]
# Under which name a file of the user's is imported; its digest follows.
FILE_MODULE = "edgekit_model_"


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
    with folders_in(store.scratch()) as scratch:
        folder = scratch()
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
    digest = hashlib.sha256(os.fsencode(file.resolve()) + f" {sha256_file(file)}".encode())
    name = f"{FILE_MODULE}{digest.hexdigest()[:16]}"
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
