"""What a run was asked for, resolved, and the cache keys that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from edgekit.cache import cache_key
from edgekit.environment import code_digest, host, numeric_level, versions
from edgekit.recipe import Limits, Recipe, Step
from edgekit.source import Source
from edgekit.stages.base import Facet
from edgekit.target import Target
from edgekit.tasks.base import TaskOptions, Workload
from edgekit.tasks.data import DataSource


@dataclass(frozen=True)
class Request:
    """Everything that decides a run's result.

    Attributes:
        source: the model.
        task: name of the task.
        options: of the task.
        data: None without data.
        target: the device.
        recipe: stages and settings.
        limits: the recipe's, changed by what the user said.
        strict: whether a limit must be proven.
        workload: what one inference is.
        threads: of the measured inference.
        jobs: threads that train and calibrate.
        seed: of every random choice.
        keep_stages: whether the artifact of each stage is left in the output.
    """

    source: Source
    task: str
    options: TaskOptions
    data: DataSource | None
    target: Target
    recipe: Recipe
    limits: Limits
    strict: bool
    workload: Workload
    threads: int
    jobs: int
    seed: int
    keep_stages: bool = False

    @property
    def not_measured_because(self) -> str:
        """Why this machine cannot measure the target; empty when it can."""
        return self.target.missing_on(host()) or ""

    @property
    def timed(self) -> bool:
        return not self.not_measured_because

    def facet(self, name: Facet) -> JsonValue:
        """A part of the request, as a cache key holds it."""
        values: dict[Facet, JsonValue] = {
            "data": [self.data.digest if self.data else None, self.task, self.options.model_dump(mode="json")],
            "widths": self.target.width_multiple,
            "opset": self.target.opset,
            "int8": self.target.int8.model_dump(mode="json"),
            "target": self.target.model_dump(mode="json", by_alias=True),
            "workload": self.workload.model_dump(mode="json"),
            "seed": self.seed,
            "jobs": [self.jobs, numeric_level()],
            "threads": self.threads,
            "original": self.source.digest,
            "host": host().fingerprint if self.timed else None,
        }
        return values[name]

    def import_key(self) -> str:
        """Key of the original as an artifact."""
        return cache_key("import", self.source.digest, self.facet("data"), *self._installation())

    def stage_key(self, step: Step, parent: str, decisions: dict[str, JsonValue]) -> str:
        """Key of a stage's result.

        Args:
            step: the stage and its settings.
            parent: key of the artifact that it reads.
            decisions: what a lock has already decided for it.
        """
        facets: list[JsonValue] = [[name, self.facet(name)] for name in step.stage.uses]
        settings = step.settings.model_dump(mode="json")
        return cache_key(
            "stage",
            step.stage.name,
            step.stage.version,
            settings,
            parent,
            facets,
            dict(decisions),
            *self._installation(),
        )

    def outputs_key(self, files: dict[str, JsonValue]) -> str:
        """Key of the outputs of an artifact, named by its files' hashes, on the evaluation split."""
        return cache_key(
            "outputs",
            files,
            self.facet("data"),
            self.seed,
            self.workload.batch,
            self.facet("jobs"),
            *self._installation(),
        )

    def run_key(self) -> str:
        """Key of the whole run."""
        locked = dict(self.recipe.lock.decisions) if self.recipe.lock else {}
        everything: list[JsonValue] = [
            self.source.record,  # type: ignore[list-item]  # a dict of strings is JSON
            self.facet("data"),
            self.data.record["name"] if self.data else None,
            self.facet("target"),
            self.recipe.as_dict(),
            self.limits.model_dump(mode="json"),
            self.strict,
            self.facet("workload"),
            self.threads,
            self.facet("jobs"),
            self.seed,
            self.keep_stages,
            host().fingerprint,
            locked,
        ]
        return cache_key("run", everything, *self._installation())

    @staticmethod
    def _installation() -> tuple[JsonValue, JsonValue]:
        return code_digest(), dict(versions())
