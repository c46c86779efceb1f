"""Everything that decides a result is in its key: each field, changed alone, is a miss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest

from edgekit import request as module
from edgekit.devices import Reached
from edgekit.devices.base import Device
from edgekit.models import ResolvedModel
from edgekit.recipe import Limits, Lock, Step, load_recipe
from edgekit.request import Request
from edgekit.runtimes.measuring import Place
from edgekit.source import Source
from edgekit.stages import STAGES
from edgekit.stages.base import Facet
from edgekit.target import load_target
from edgekit.tasks.base import TaskOptions, Workload
from edgekit.tasks.data import DataSource
from edgekit.trials import Search

SOURCE = Source(location="m", path="/m", architecture="Bert", model_type="bert", digest="1" * 64, size_bytes=1)
DATA = DataSource(location="d.csv", kind="file", digest="2" * 64)
VNNI, ARM = load_target("x86-64-vnni"), load_target("arm64")
LOCK = Lock(
    target="x86-64-vnni",
    source=SOURCE.digest,
    seed=0,
    jobs=1,
    threads=1,
    workload=Workload(),
    numeric_level="x",
    versions={},
    decisions={"keep.prune": True},
)


class Somewhere(Device):
    """A device that is only named."""

    def __init__(self, fingerprint: str = "here") -> None:
        self.label = self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def execute(self, folder: Any, seconds: float) -> str:
        raise AssertionError("nothing runs here")


REQUEST = Request(
    source=SOURCE,
    task="text-classification",
    options=TaskOptions(),
    data=DATA,
    target=VNNI,
    format="onnx",
    recipe=load_recipe("default"),
    limits=Limits(),
    strict=False,
    workload=Workload(),
    reached=Reached((Somewhere(),)),
    threads=1,
    jobs=1,
    seed=0,
)
OTHER = SOURCE.model_copy(update={"digest": "3" * 64})
# For each field of a request, others that give another result.
CHANGES: dict[str, list[Any]] = {
    "source": [OTHER],
    "task": ["image-classification"],
    "options": [TaskOptions(metric="f1"), TaskOptions(columns={"text": "body"}), TaskOptions(max_length=64)],
    "data": [None, DATA.model_copy(update={"digest": "4" * 64})],
    "target": [ARM, VNNI.model_copy(update={"opset": VNNI.opset - 1})],
    "format": ["tflite"],
    "recipe": [
        load_recipe("quantize"),
        load_recipe("default", {"prune.ratio": "0.4"}),
        replace(REQUEST.recipe, lock=LOCK),
    ],
    "limits": [Limits(max_drop=0.1), Limits(max_ms=5), Limits(max_mb=5), Limits(max_instructions=5), Limits(time=5)],
    "strict": [True],
    "workload": [Workload(batch=2), Workload(tokens=64), Workload(image=32)],
    "reached": [Reached((Somewhere("there"),)), Reached()],
    "threads": [2],
    "jobs": [2],
    "seed": [1],
    "keep_stages": [True],
    "search": [Search(objective="size"), Search(objective="latency", fill=True), Search(objective="size", trial=True)],
    "student": [ResolvedModel(OTHER, "text-classification", None)],
    "replaced_because": ["there is none here"],
    "costs": [SimpleNamespace(digest="5" * 64)],
}
# What follows from others: code and what was said of it are in the source's digest.
FOLLOWS = {"build", "feeding"}


def test_every_field_of_a_request_is_looked_at() -> None:
    assert {field.name for field in fields(Request)} == CHANGES.keys() | FOLLOWS


def changed() -> list[tuple[str, Any]]:
    return [(name, value) for name, values in CHANGES.items() for value in values]


@pytest.mark.parametrize(("name", "value"), changed(), ids=lambda value: value if isinstance(value, str) else "")
def test_another_value_is_another_run(name: str, value: Any) -> None:
    assert replace(REQUEST).run_key() == REQUEST.run_key()
    assert replace(REQUEST, **{name: value}).run_key() != REQUEST.run_key()


# For each part of the job that a stage may use, a request in which it is another.
FACETS: dict[str, dict[str, Any]] = {
    "format": {"format": "tflite"},
    "data": {"data": DATA.model_copy(update={"digest": "4" * 64})},
    "widths": {"target": VNNI.model_copy(update={"width_multiple": VNNI.width_multiple * 2})},
    "opset": {"target": VNNI.model_copy(update={"opset": VNNI.opset - 1})},
    "int8": {"target": VNNI.model_copy(update={"int8": load_target("x86-64").int8})},
    "target": {"target": ARM},
    "workload": {"workload": Workload(tokens=64)},
    "seed": {"seed": 1},
    "jobs": {"jobs": 2},
    "threads": {"threads": 2},
    "original": {"source": OTHER},
    "host": {"reached": Reached((Somewhere("there"),))},
    "preview": {"recipe": load_recipe("default", {"quantize.method": "static"})},
}


def step(name: str, settings: Any = None) -> Step:
    return Step(STAGES[name], settings or STAGES[name].settings())


def test_every_facet_has_another_value_here() -> None:
    assert FACETS.keys() == set(get_args(Facet))


@pytest.mark.parametrize(("stage", "facet"), [(name, facet) for name, stage in STAGES.items() for facet in stage.uses])
def test_what_a_stage_uses_of_the_job_is_in_its_key(stage: str, facet: str) -> None:
    other = replace(REQUEST, **FACETS[facet])
    assert other.stage_key(step(stage), "parent", {}) != REQUEST.stage_key(step(stage), "parent", {})


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # values that are none of the setting's
@pytest.mark.parametrize(
    ("stage", "setting"), [(name, field) for name, stage in STAGES.items() for field in stage.settings.model_fields]
)
def test_every_setting_of_a_stage_is_in_its_key(stage: str, setting: str) -> None:
    settings = STAGES[stage].settings()
    other = settings.model_copy(update={setting: _another(getattr(settings, setting))})
    assert REQUEST.stage_key(step(stage, other), "parent", {}) != REQUEST.stage_key(step(stage), "parent", {})


def _another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return (*value, "another") if isinstance(value, tuple) else "another"


def test_parent_version_decisions_and_costs_are_in_the_key_of_a_stage() -> None:
    one = step("quantize")
    newer = Step(replace(one.stage, version=one.stage.version + 1), one.settings)
    keys = {
        REQUEST.stage_key(one, "parent", {}),
        REQUEST.stage_key(one, "other", {}),
        REQUEST.stage_key(newer, "parent", {}),
        REQUEST.stage_key(one, "parent", {"quantize.model": "dynamic"}),
        REQUEST.stage_key(one, "parent", {}, "costs"),
    }
    assert len(keys) == 5
    assert {len(key) for key in keys} == {64}  # 256 bits


def test_rewrites_that_a_search_decided_on_are_in_the_key_of_its_costs() -> None:
    assert REQUEST.costs_key({}, {"optimize.model": {"packed": {"pays": True}}}) != REQUEST.costs_key({}, {})


KEYS: dict[str, Callable[[Request], str]] = {
    "run": Request.run_key,
    "import": lambda request: request.import_key(request.original),
    "stage": lambda request: request.stage_key(step("export"), "parent", {}),
    "outputs": lambda request: request.outputs_key({"model.onnx": "1"}, "onnxruntime", "here"),
    "costs": lambda request: request.costs_key({}, {}),
    "elsewhere": lambda request: request.elsewhere_key("check", {"model.onnx": "1"}, Place(Somewhere())),
}


@pytest.mark.parametrize("kind", KEYS)
def test_code_and_versions_are_in_every_key(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [KEYS[kind](REQUEST)]
    for name, value in (("code_digest", "6" * 64), ("versions", {"torch": "9"})):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda value=value: value)
            keys.append(KEYS[kind](REQUEST))
    assert len(set(keys)) == 3


@pytest.mark.parametrize("number", range(3))
def test_files_runtime_and_arithmetic_are_in_the_key_of_outputs(number: int) -> None:
    given: list[Any] = [{"model.onnx": "1"}, "onnxruntime", "here"]
    other = [*given[:number], ({"model.onnx": "2"}, "torch", "saturating")[number], *given[number + 1 :]]
    assert REQUEST.outputs_key(*cast("Any", other)) != REQUEST.outputs_key(*cast("Any", given))
    assert replace(REQUEST, seed=1).outputs_key(*given) != REQUEST.outputs_key(*given)
    assert replace(REQUEST, **FACETS["data"]).outputs_key(*given) != REQUEST.outputs_key(*given)
