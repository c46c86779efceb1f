"""Graphs of others: found, checked, described, and made usable.

A file of a stranger may be old, damaged or hostile. It is checked before anything else looks at it, by programs whose
memory is bounded, and nothing outside its folder is read. What edgekit's rewrites and quantizer need is then done to a
copy: a newer operator set, weights that are no inputs, names, shapes. Whether the copy answers as the file does is for
the caller to find out, since nothing here runs a graph.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgekit.artifact import KEPT_NAMES, WHOLE, Artifact, Component, Manifest, write_text
from edgekit.bounds import MAX_GRAPH_BYTES
from edgekit.cache import OBJECT, Cache, cache_key, folders_in, temporary
from edgekit.confinement import death, lacks_memory, limits_for, out_of_memory, out_of_time, run
from edgekit.description import (
    Feeding,
    Sample,
    read_description,
)
from edgekit.errors import HostError, ModelError, ResourceLimitError
from edgekit.formats.liveness import find_peak
from edgekit.formats.onnx import load_graph, load_structure, precision_of, save_graph
from edgekit.formats.shapes import infer_shapes
from edgekit.formats.signatures import describe_images, describe_tensors, read_signature, softmax_outputs
from edgekit.formats.wellformed import (
    all_tensors,
    check_names,
    external_files,
    inline_functions,
    is_external,
    load_external,
)
from edgekit.formats.work import all_nodes
from edgekit.settings import Frozen
from edgekit.source import MODULE, Source, digest_sums, sha256_file
from edgekit.tasks.base import Workload
from edgekit.tasks.feeds import free_size

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH = "model.onnx"
WORKER = Path(__file__).with_name("converting.py")
# Names of files that lie beside a graph in the cache or in an artifact, as a system that knows no capitals has them.
RESERVED = KEPT_NAMES | {name.casefold() for name in (GRAPH, MODULE, OBJECT)}
# What onnx_ir raises on protobuf that is no graph.
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# Split and Slice take their sizes as inputs, and QuantizeLinear takes an axis, from 13 on: the rewrites write the
# first two, and weights are scaled by output channel.
NEEDED_OPSET = 13
# Operators that onnxruntime's CPU provider has beside ONNX's own.
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# What onnx_ir computes with sizes that have no number by, which nothing here asks it for: sympy takes ten times as long
# to import as the rest of onnx_ir. Where another version has no such modules, all of it is imported at once.
SYMBOLIC = ("sympy", "onnx_ir._symbolic_shapes")


def resolve_graph(location: str | Path, feeding: Feeding, sample: Sample | None, *, images: bool) -> Source:
    """Check an ``.onnx`` file and leave it in the cache, with the description of what it takes.

    Args:
        location: of the file; external data lies beside it.
        feeding: what the user said of it.
        sample: what the data says of its images; None without data.
        images: whether it is fed images.

    Raises:
        ModelError: there is no such file, it is no valid graph, or it cannot be fed so.
        UsageError: what was said of it does not fit.
    """
    file = Path(location).expanduser()
    if not file.is_file():
        raise ModelError(f"there is no file {str(location)!r}", id="model.missing", hint="Check the path.")
    seen = {file: _stamp(file)}
    model, external = check_graph(file)
    seen |= {part: _stamp(part) for part in external}
    _check_kept_names(file, external)
    signature = read_signature(model, feeding.get("state") or ())
    softmaxed = softmax_outputs(model)
    described = describe_images(softmaxed, signature, feeding, sample, file.name) if images else None
    if described is None:
        described = describe_tensors(softmaxed, signature, feeding, file.name)
    check_memory(model, file, Workload())
    text = described.model_dump_json(by_alias=True, indent=1) + "\n"
    store = Cache()
    given, kept = dict[str, str](), dict[str, str]()
    with folders_in(store.scratch()) as scratch:
        folder = scratch()
        for part in (file, *external):
            name = part.relative_to(file.parent).as_posix()
            copied = folder / (GRAPH if part == file else name)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, copied)
            copied.chmod(0o644)
            given[name] = kept[copied.relative_to(folder).as_posix()] = sha256_file(copied)
        changed = next((part.name for part, stamp in seen.items() if _stamp(part) != stamp), None)
        if changed is not None:
            raise ModelError(
                f"{changed!r} was changed while it was read",
                id="model.changed",
                hint="Run it again on a file at rest.",
            )
        write_text(folder / MODULE, text)
        said = hashlib.sha256(text.encode()).hexdigest()
        digest = hashlib.sha256(f"{digest_sums(given)} {said}".encode()).hexdigest()
        place = store.put(cache_key("graph", digest), folder, known=kept)
    return Source(
        location=str(location),
        kind="onnx",
        path=str(place),
        architecture=model.producer_name or "ONNX",
        model_type="onnx",
        digest=digest,
        size_bytes=sum(part.stat().st_size for part in (file, *external)),
    )


def _stamp(file: Path) -> tuple[int, ...]:
    """By which it is seen that a file is what it was: another one in its place, or other bytes, have another."""
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check_kept_names(file: Path, parts: Sequence[Path]) -> None:
    """Refuse external data that would take the place of the checked graph, or of what describes it, in the copy.

    Raises:
        ModelError: a part has a name that an artifact or the cache uses for a file of its own.
    """
    for part in parts:
        name = part.relative_to(file.parent)
        if RESERVED & {word.casefold() for word in name.parts}:
            raise ModelError(
                f"{file.name!r} keeps weights in {name.as_posix()!r}, which is not read",
                id="model.unsafe-external-data",
                why="edgekit has a file of its own with that name beside a graph",
                hint="Save the model with another name for its external data.",
            )


def graph_files(folder: Path) -> list[Path]:
    """The files of a graph as ``resolve_graph`` left it: the graph first, its external data after it."""
    return [folder / GRAPH, *external_files(load_structure(folder / GRAPH), folder / GRAPH)]


def graph_component(folder: Path) -> Component:
    """What a manifest says of a graph as ``resolve_graph`` left it."""
    signature = read_description(folder).graph
    assert signature is not None  # resolve_graph writes it
    model = load_structure(folder / GRAPH)
    return Component(
        files=tuple(file.relative_to(folder).as_posix() for file in graph_files(folder)),
        inputs=signature.inputs,
        outputs=signature.outputs,
        precision=precision_of(model),
        states=signature.states,
    )


def graph_artifact(source: Source, task: str) -> Artifact:
    """A graph as ``resolve_graph`` left it, as something that a runtime can open."""
    folder = Path(source.path)
    part = graph_component(folder)
    return Artifact(folder, Manifest(format="onnx", task=task, source=source.record, components={WHOLE: part}))


def check_graph(file: Path) -> tuple[ir.Model, list[Path]]:
    """Check a file before anything else looks at it, and give the graph and the files of its external data.

    It is parsed and checked in a process of its own first: what brings that down is not opened here.

    Raises:
        ModelError: it is no valid graph, lacks external data, has operators that nobody knows, or crashes its parser.
        ResourceLimitError: its parser takes more time or memory than it may.
    """
    if file.stat().st_size > MAX_GRAPH_BYTES:
        raise ModelError(
            f"{file.name!r} has {file.stat().st_size} bytes",
            id="model.invalid-onnx",
            why=f"allowed: {MAX_GRAPH_BYTES}; larger weights lie in files beside the graph",
        )
    libraries = threading.Thread(target=_import_libraries)  # they load while the process looks at the file
    libraries.start()
    try:
        answer = _ask_worker({"file": str(file.resolve())}, file)
    finally:
        libraries.join()
    try:
        model = load_graph(file)
    except UNREADABLE as error:
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ModelError(f"{file.name!r} is no valid ONNX graph", id="model.invalid-onnx", why=first) from error
    check_names(model, file)
    external = external_files(model, file)
    _check_operators(model, file)
    if answer.refused:
        raise ModelError(f"{file.name!r} is no valid ONNX graph", id="model.invalid-onnx", why=answer.refused)
    known = sum(is_external(tensor) for tensor in all_tensors(model.graph))
    if answer.external != known:
        raise ModelError(
            f"{file.name!r} keeps weights in other files that are not read",
            id="model.unsafe-external-data",
            why=f"{answer.external - known} tensors, named in functions, in lists of attributes, or for training",
            hint="Save the model with these weights inside, or without functions.",
        )
    return model, external


class _Later(MetaPathFinder):
    """Finds the modules of ``SYMBOLIC`` so that each is imported when somebody first takes something out of it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The finder of files' own, with a loader that waits."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in SYMBOLIC else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _import_libraries() -> None:
    """Import what comes next needs."""
    later = _Later()
    sys.meta_path.insert(0, later)
    try:
        import onnx_ir  # noqa: F401
    finally:
        sys.meta_path.remove(later)
    import onnx.reference.ops  # noqa: F401


def _check_operators(model: ir.Model, file: Path) -> None:
    own = {domain for domain, *_ in model.functions}
    strange = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in all_nodes(model.graph)
            if node.domain not in KNOWN_DOMAINS and node.domain not in own
        }
    )
    if strange:
        raise ModelError(
            f"{file.name!r} has operators that onnxruntime does not know: {', '.join(strange[:5])}",
            id="model.unknown-operator",
            why=f"allowed: those of {', '.join(domain for domain in KNOWN_DOMAINS if domain)}",
        )


def check_memory(model: ir.Model, file: Path, workload: Workload) -> None:
    """Check that a machine could hold what a graph makes, by inference, which computes no large value.

    A graph of a few bytes can ask for any amount: ``ConstantOfShape`` of 2^36 passes onnx's checker, and onnxruntime
    then asks for 256 GiB.

    Args:
        model: the graph, checked; its functions are put in the place of their calls.
        file: where it lies.
        workload: what its free dimensions are set to.

    Raises:
        ResourceLimitError: weights and the largest set of values that live at once do not fit.
    """
    import onnx_ir as ir

    inline_functions(model, file)
    sizes = {
        str(dim.value): free_size(str(dim.value), axis, workload)
        for value in model.graph.inputs
        for axis, dim in enumerate(value.shape or ())
        if isinstance(dim, ir.SymbolicDim) and dim.value is not None
    }
    shapes = infer_shapes(model, sizes)
    peak = find_peak(model.graph, shapes, set())
    weights = sum(tensor.nbytes for tensor in all_tensors(model.graph))
    allowed = limits_for(file.stat().st_size).memory_bytes
    if weights + peak.nbytes > allowed:
        raise ResourceLimitError(
            f"{file.name!r} would take about {weights + peak.nbytes} bytes of memory",
            id="resource-limit.model-memory",
            why=f"{weights} of weights, and {peak.nbytes} of values that live at once at {peak.node or peak.kind!r};"
            f" there are {allowed}",
            hint="Use a smaller workload (--batch, --tokens, --image), or a machine with more memory.",
        )


@dataclass(frozen=True)
class Adoption:
    """What was done to a copy of a graph.

    Attributes:
        done: what, in words.
        refused: what could not be done, with the reason.
    """

    done: tuple[str, ...]
    refused: tuple[str, ...]


def adopt_graph(source: Path, destination: Path, *, upgrade: bool = True) -> Adoption:
    """Write a copy of a graph that edgekit's rewrites and quantizer can work on.

    Args:
        source: the file given, checked.
        destination: the new file.
        upgrade: False leaves operator set and operators as they are, and only names and places change.

    Raises:
        ModelError: the graph cannot be read.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import (
        LiftConstantsToInitializersPass,
        NameFixPass,
        RemoveInitializersFromInputsPass,
        ShapeInferencePass,
    )

    done, refused = [], []
    opset = opset_of(load_structure(source))
    with temporary() as scratch:
        file = source
        if upgrade and opset < NEEDED_OPSET:
            file = scratch / GRAPH
            reason = convert_graph(source, file, NEEDED_OPSET)
            told = f"operator set {opset} to {NEEDED_OPSET}"
            if reason:
                file = source
                refused.append(f"{told}: {reason}")
            else:
                done.append(told)
        model = load_external(load_graph(file))  # what lies beside the source is not beside the copy
        given = sum(value.name in model.graph.initializers for value in model.graph.inputs)
        if inline_functions(model, file):
            done.append("functions inlined")
        if given:
            RemoveInitializersFromInputsPass()(model)
            done.append(f"{given} weights are no inputs any more")
        unnamed = sum(not node.name for node in all_nodes(model.graph))
        for change in (LiftConstantsToInitializersPass(), NameFixPass()):
            change(model)
        if unnamed:
            done.append(f"{unnamed} nodes named")
        if upgrade:
            folded = _fold_batch_norms(model)
            if folded:
                done.append(f"{folded} batch norms folded into convolutions")
        model = ShapeInferencePass()(model).model
        for value in _all_values(model.graph):  # what inference makes of a free dimension without a name
            if value.shape is not None and any(
                isinstance(dim, ir.SymbolicDim) and dim.value is None for dim in value.shape
            ):
                value.shape = None
        save_graph(model, destination)
    return Adoption(tuple(done), tuple(refused))


def opset_of(model: ir.Model) -> int:
    """The version of ONNX's own operators that a graph is written in."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))


def convert_graph(source: Path, destination: Path, opset: int) -> str:
    """Write a graph in another operator set, in a process of its own; why it cannot be, empty where it was."""
    spec = {"file": str(source.resolve()), "opset": opset, "into": str(destination)}
    return _ask_worker(spec, source).refused


class _Answer(Frozen):
    """What the program beside this file says: what it has against a graph, and how many tensors lie in other files."""

    refused: str
    external: int


def _ask_worker(spec: dict[str, Any], file: Path) -> _Answer:
    """Have the program beside this file check or convert a graph.

    Raises:
        ModelError: it crashed on it.
        ResourceLimitError: it took more time or memory than it may.
        HostError: the program failed, whatever the graph is.
    """
    limits = limits_for(file.stat().st_size, once=True)
    with temporary() as folder:
        written = folder / "spec.json"
        written.write_text(json.dumps(spec), encoding="utf-8")
        try:
            done = run([sys.executable, "-P", str(WORKER), str(written)], limits)
        except subprocess.TimeoutExpired as error:
            raise out_of_time(repr(file.name), limits) from error
    died = death(repr(file.name), done.returncode, done.stderr, limits)
    if died is not None:
        raise died
    if done.returncode != 0:
        raise HostError(
            "onnx could not be run to check a graph",
            id="environment.checking",
            why=(done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1],
        )
    answer = _Answer.model_validate_json(done.stdout.rpartition("\n")[2])  # native code may print before it
    if lacks_memory(answer.refused):
        raise out_of_memory(repr(file.name), limits, answer.refused)
    return answer


def _fold_batch_norms(model: ir.Model) -> int:
    """Fold batch norms into the convolutions before them, by onnxscript's rules; how many."""
    before = sum(node.op_type == "BatchNormalization" for node in model.graph)
    if not before:
        return 0
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules.common import fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_gemm_rule

    rewrite(model, [fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_gemm_rule])
    return before - sum(node.op_type == "BatchNormalization" for node in model.graph)


def _all_values(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs
