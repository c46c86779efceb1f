"""What a search may change: the shape of the model, how long it is taught, how it is quantized, and further savings.

A trial is a recipe, here as tables of its stages without the settings that are defaults: the base recipe's, with others
in their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from edgekit.errors import UsageError
from edgekit.pipeline import leave_out
from edgekit.pruning.encoders.table import CostTable, Widths
from edgekit.quantization.methods import methods_for
from edgekit.recipe import Recipe, Step, check_chain, read_step
from edgekit.request import Request
from edgekit.search.pace import evaluate_every
from edgekit.stages import STAGES
from edgekit.stages.distill import ENCODER_RATE, DistillSettings, planned_steps
from edgekit.stages.prune import ENCODER_RATIO, MODULE_RATIO, PruneSettings
from edgekit.stages.quantize.settings import QuantizeSettings

Table = dict[str, JsonValue]
Tables = tuple[Table, ...]

# Where there are no layers to choose, what is cut is found in another way. Both kinds need labels, or none do.
ENCODER_IMPORTANCE, MODULE_IMPORTANCE = ("taylor", "fisher"), ("taylor", "magnitude")
FLOOR = 0.2  # the default of prune.floor
# Of what may be lost in all, what quantization may lose before layers fall back, and the most of that in any case.
TOLERATED, MOST_TOLERATED = 0.5, 0.02
# What the narrowest encoder is asked to cost of what is predicted for it: ratios are rounded.
NARROWEST = 1.02
# In a box of fewer seconds there is one training, which is looked at on the evaluation split at once: nothing has to be
# ranked, and savings of size are tried only where size is what is asked for.
SHORT_BOX = 600.0


# The setting of the stage quantize that leaves a share of the layers in float.
FLOAT_SHARE = "float_share"


@dataclass(frozen=True)
class Lever:
    """A saving of size that takes no training.

    Attributes:
        name: as records call it.
        stage: that it adds behind the training, or whose settings it changes.
        settings: of that stage.
        added: whether the stage is added.
        slower: whether an inference takes longer with it: it is used where size matters.
    """

    name: str
    stage: str
    settings: Mapping[str, JsonValue]
    added: bool
    slower: bool = False


# Each is used where this edgekit has the stage or the setting, and the target takes it.
LEVERS = (
    Lever("vocabulary", "vocabulary", {}, added=True),
    Lever("embeddings in INT4", "quantize", {"embeddings": "int4"}, added=False, slower=True),
)


@dataclass(frozen=True)
class Shape:
    """How much of the model is left.

    Attributes:
        kept: share of the original's cost: by a table of costs, else of its multiply-accumulates.
        layers: of an encoder; None for other models.
        importance: by which the rest is chosen.
    """

    kept: float
    layers: int | None
    importance: str


@dataclass(frozen=True)
class Space:
    """All that trials are made of.

    Attributes:
        trains: whether there is data and a model to train.
        prune, distill: the base recipe's tables.
        graph: its stages from the export on.
        methods: of quantization that the target takes beside the base recipe's; an empty one is none at all.
        levers: that can be used here.
        layers: of the original, where it is an encoder.
        full_steps: of the base recipe's distillation.
        narrows: whether students learn with their table of words in INT4, in which it is then shipped.
        spends: whether layers can stay in float to use up a budget.
        measures: whether a table of costs is to be made, or to be read.
        reach: of each number of layers from 1 on, what the narrowest and the widest encoder cost of the whole one, by
            that table; empty where costs are multiply-accumulates. The widest of as many layers as the whole one costs
            less than it where the recipe prunes the hidden size.
    """

    trains: bool
    prune: Table
    distill: Table
    graph: Tables
    methods: tuple[str, ...]
    levers: tuple[Lever, ...]
    layers: int | None
    full_steps: int
    narrows: bool = False
    spends: bool = False
    measures: bool = False
    reach: tuple[tuple[float, float], ...] = ()

    @property
    def full_ratio(self) -> float:
        """The multiply-accumulates that the base recipe removes: its distillation is known to make good for them."""
        return MODULE_RATIO if self.layers is None else ENCODER_RATIO

    @property
    def default(self) -> Shape:
        """The base recipe's shape."""
        settings = PruneSettings.model_validate({key: value for key, value in self.prune.items() if key != "stage"})
        layers = None if self.layers is None else max(1, round(self.layers * settings.layers))
        return Shape(self.share(1 - self.full_ratio, layers), layers, settings.importance)

    @property
    def layer_choices(self) -> tuple[int, ...]:
        """Numbers of layers worth trying: the base recipe's first, then its neighbours, no fewer than half."""
        if self.layers is None or self.default.layers is None:
            return ()
        usual = self.default.layers
        return tuple(sorted(self._depths, key=lambda count: (abs(count - usual), count)))[:4]

    @property
    def _depths(self) -> range:
        return range(-(-self.layers // 2), self.layers + 1) if self.layers is not None else range(0)

    @property
    def importances(self) -> tuple[str, ...]:
        """Ways to choose what stays, the base recipe's first."""
        known = MODULE_IMPORTANCE if self.layers is None else ENCODER_IMPORTANCE
        return tuple(dict.fromkeys((self.default.importance, *known)))

    def span(self, layers: int | None) -> tuple[float, float]:
        """The share of the whole cost that the narrowest and the widest model of so many layers take."""
        if self.layers is None or layers is None:
            return 0.0, 1.0
        return self.reach[layers - 1] if self.reach else (0.0, layers / self.layers)

    def share(self, macs: float, layers: int | None) -> float:
        """The share of the cost that layers take, all equally wide, which have a share of the multiply-accumulates."""
        if not self.reach or self.layers is None or layers is None:
            return macs
        least, most = self.span(layers)
        hidden = self.span(self.layers)[1]  # what the hidden size leaves of the cost of each layer
        return least + min(1.0, macs * self.layers / layers / hidden) * (most - least)

    def layers_near(self, kept: float, usual: int | None) -> int | None:
        """The number of layers next to the usual one of which widths can be chosen that cost this share."""
        if usual is None:
            return None

        def off(count: int) -> float:
            least, most = self.span(count)
            return round(max(least - kept, kept - most, 0.0), 6)

        return min(self._depths, key=lambda count: (off(count), abs(count - usual), count), default=usual)

    def comparable(self, shape: Shape) -> tuple[int, ...]:
        """The numbers of layers worth trying that can cost as much as a shape; none where there are no layers."""
        able = [count for count in self.layer_choices if self.span(count)[0] <= shape.kept <= self.span(count)[1]]
        return tuple(able) or ((shape.layers,) if shape.layers is not None else ())

    def cut(self, shape: Shape, *, of: Shape | None = None) -> Table:
        """A prune stage that leaves a shape of the original, or of a student that has another one.

        This is the one place that knows how a shape is asked for. A share that is too small for its layers becomes that
        of the narrowest, as with multiply-accumulates.
        """
        before = of or Shape(1.0, self.layers, shape.importance)
        least, most = self.span(shape.layers)
        kept = max(shape.kept, least)
        layers = shape.layers / before.layers if shape.layers and before.layers else 1.0
        ratio = max(0.0, round(1 - kept / before.kept, 4))
        table: Table = {**self.prune, "ratio": ratio, "importance": shape.importance}
        if self.reach:
            table["cost"] = "measured"
        if self.layers is not None:
            table["layers"] = round(layers, 4)
        # of so many layers, none of them narrower
        whole = most if of is None else before.kept * most / self.span(before.layers)[1]
        widths = (kept - least) / (whole - least) if whole > least else 0.0
        lowest = round(0.6 * widths, 2)  # what the widths may go down to, so that the ratio can be reached
        return table if lowest >= FLOOR else {**table, "floor": lowest}

    def taught(self, steps: int, *, gently: bool = False) -> Table:
        """A distill stage of so many steps, with a few looks at the selection split, unless the recipe says how many.

        Args:
            steps: of training.
            gently: whether an encoder learns at half the usual rate, unless the recipe says at which.
        """
        table = {"evaluate_every": evaluate_every(steps), **self.distill, "max_steps": steps}
        if self.narrows:
            table["embeddings"] = "int4"
        if gently and self.layers is not None and table.get("learning_rate", "auto") == "auto":
            table["learning_rate"] = ENCODER_RATE / 2
        return table

    def quantized(self, method: str | None = None) -> Tables:
        """No training; by another method of quantization, or (an empty one) in FP32."""
        if method == "":
            return tuple(table for table in self.graph if table["stage"] != "quantize")
        return _changed(self.graph, {} if method is None else {"method": method})

    def partly(self, share: float, *, quick: bool) -> Tables:
        """No training, and a share of the layers that multiply in float; ``quick`` as for ``whole``."""
        changes: Table = {FLOAT_SHARE: share}
        return _changed(self.graph, changes | ({"fallback": False} if quick else {}))

    def whole(
        self, training: Tables, levers: Sequence[Lever] = (), *, method: str | None = None, quick: bool = False
    ) -> Tables:
        """Stages up to the end of training, with all that follows.

        Args:
            training: prune and distill.
            levers: further savings.
            method: of quantization, as for ``quantized``.
            quick: whether only the cost counts, so that no layer needs to fall back.
        """
        added: Tables = tuple({"stage": lever.stage, **lever.settings} for lever in levers if lever.added)
        changes: Table = {"embeddings": "int4"} if training and self.narrows and method is None else {}
        for lever in levers:
            changes |= {} if lever.added else lever.settings
        changes |= {"fallback": False} if quick else {}
        return (*training, *added, *_changed(self.quantized(method), changes))


def _changed(graph: Tables, changes: Table) -> Tables:
    """The stages of a graph with other settings of the stage quantize."""
    return tuple(table | changes if table["stage"] == "quantize" else table for table in graph)


def training_of(stages: Sequence[Table]) -> Tables:
    """The stages of a trial that train: those another trial can go on from."""
    return tuple(table for table in stages if table["stage"] in ("prune", "distill"))


def recipe_of(base: Recipe, stages: Sequence[Table]) -> Recipe:
    """A trial's stages as a recipe."""
    steps = tuple(read_step(table, f"stage {number} of a trial") for number, table in enumerate(stages, 1))
    recipe = Recipe("searched", "found by a search from limits", base.limits, steps)
    check_chain(recipe)
    return recipe


def space_of(request: Request, layers: int | None, samples: int) -> Space:
    """What a search for this request may try.

    Args:
        request: with the base recipe.
        layers: of the encoder; None for other models.
        samples: that there are to train on.
    """
    steps, _ = leave_out(request)
    by_name = {step.stage.name: step for step in steps}
    trains = "prune" in by_name and "distill" in by_name
    tables = (_table(step) for step in steps if step.stage.produces != "torch" or step.stage.accepts != "torch")
    graph = tuple(_tolerant(request, table) if table["stage"] == "quantize" else table for table in tables)
    distill = by_name.get("distill")
    return Space(
        trains=trains,
        prune=_table(by_name["prune"]) if trains else {},
        distill=_table(by_name["distill"]) if trains else {},
        graph=graph,
        methods=_methods(request, graph),
        levers=tuple(lever for lever in LEVERS if _usable(request, lever)),
        layers=layers,
        full_steps=planned_steps(_distill_settings(distill), samples) if distill else 0,
        narrows=trains and layers is not None and _narrows(request, distill, by_name.get("quantize")),
        spends=_spends(request, graph),
        measures=trains and layers is not None and _measures(request, layers, by_name["prune"]),
    )


def _narrows(request: Request, distill: Step | None, quantize: Step | None) -> bool:
    """Whether an encoder's table of words can be INT4 from the start, where the user says nothing of it."""
    if quantize is None or distill is None or request.goal.tokens is None:
        return False
    steps = (distill, quantize)
    said = any("embeddings" in step.settings.model_fields_set for step in steps)
    return not said and all(_fits(request, {**_table(step), "embeddings": "int4"}) for step in steps)


def _measures(request: Request, layers: int, prune: Step) -> bool:
    """Whether shapes of an encoder go by a table of costs: one that was given, or is worth its minutes.

    Where only size counts, they do not: it goes with the widths, as the multiply-accumulates do. A table of several
    hidden sizes takes three times as long, so that a recipe which prunes it goes by one that was given only. Every
    table is of all tokens.
    """
    settings = prune.settings
    narrower = isinstance(settings, PruneSettings) and settings.hidden is not None
    thinned = isinstance(settings, PruneSettings) and settings.tokens is not None
    search, limits = request.search, request.limits
    only_size = search is not None and (
        search.objective == "size" or (search.fill and limits.max_ms is None and limits.max_instructions is None)
    )
    roomy = limits.time is not None and limits.time >= SHORT_BOX and bool(request.places)
    worth = request.costs is not None or (roomy and not narrower)
    return layers > 1 and request.format == "onnx" and not only_size and not thinned and worth


def _spends(request: Request, graph: Tables) -> bool:
    """Whether a limit on what an inference costs can be used up by layers in float, where the recipe says of none."""
    quantize = next((table for table in graph if table["stage"] == "quantize"), None)
    if quantize is None or FLOAT_SHARE in quantize or request.data is None:
        return False
    limited = request.limits.max_ms is not None or request.limits.max_instructions is not None
    return limited and _fits(request, {**quantize, FLOAT_SHARE: 0.5})


def reach_of(
    table: CostTable, widths: Widths, multiple: int, hidden: int | None = None
) -> tuple[tuple[float, float], ...]:
    """Of each number of layers, what the narrowest and the widest encoder cost of the whole one, by a table.

    Args:
        table: of costs.
        widths: heads and neurons of each layer of the whole encoder.
        multiple: of neurons.
        hidden: columns of the stream that stay; None where all do.
    """
    whole = table.predict(widths)
    table = table if hidden is None else table.at(hidden)  # what stays
    heads, neurons = max(one[0] for one in widths), max(one[1] for one in widths)
    found = []
    for count in range(1, len(widths) + 1):
        least = table.predict([(1, min(multiple, neurons))] * count) * NARROWEST / whole
        most = min(1.0, table.predict([(heads, neurons)] * count) / whole)
        found.append((round(min(most, max(0.0, least)), 6), round(most, 6)))
    return tuple(found)


def _distill_settings(step: Step) -> DistillSettings:
    assert isinstance(step.settings, DistillSettings)
    return step.settings


def _table(step: Step) -> Table:
    return {"stage": step.stage.name, **step.settings.model_dump(mode="json", exclude_defaults=True)}


def _tolerant(request: Request, table: Table) -> Table:
    """The stage quantize with half of what may be lost in all as its tolerance, unless the recipe says which.

    Less is lost where limits on cost are used up for quality, and 2 points at the most.
    """
    search, bound = request.search, request.limits.max_drop
    if "tolerance" in table or bound is None or search is None:
        return table
    usual = float(QuantizeSettings().tolerance)
    tolerance = min(TOLERATED * bound, usual if search.fill else MOST_TOLERATED)
    return table if tolerance == usual else {**table, "tolerance": round(tolerance, 6)}


def _methods(request: Request, graph: Tables) -> tuple[str, ...]:
    """Other methods than the base recipe's own, those first that make the model smaller; last, none at all."""
    quantize = next((table for table in graph if table["stage"] == "quantize"), None)
    if quantize is None:
        return ()
    known = methods_for(request.target, request.format, request.runtime)
    usual = str(quantize.get("method") or next(iter(known), ""))
    fit = [method for method in known if method != usual and _usable_method(request, quantize, method)]
    return (*fit, "")


def _usable_method(request: Request, quantize: Table, method: str) -> bool:
    return _fits(request, {**quantize, "method": method})


def _usable(request: Request, lever: Lever) -> bool:
    """Whether this edgekit has the stage and its settings, and the target takes what comes of it."""
    if lever.stage not in STAGES or (request.source.kind == "onnx" and lever.added):
        return False
    return _fits(request, {"stage": lever.stage, **lever.settings})


def _fits(request: Request, table: Table) -> bool:
    stage = STAGES[str(table["stage"])]
    try:
        settings = stage.settings.model_validate({key: value for key, value in table.items() if key != "stage"})
        stage.check(settings, request.goal)
    except (ValidationError, UsageError):
        return False
    precision = stage.precision(settings, request.goal)
    without = request.data is None and stage.needs_data(settings, request.goal)
    return not without and (precision is None or precision in request.target.precisions)
