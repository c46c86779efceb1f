"""A training whose time was up has a place of its own in the cache, and a run that goes on finds it there."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from end_to_end.made import SHORT, WORKLOAD, model_folder, text_data

from edgekit.cache import Cache
from edgekit.progress import Silent
from edgekit.request import resolve_request
from edgekit.stages.base import read_details
from edgekit.workshop import Made, Workshop

SETTINGS = SHORT | {"distill.epochs": "2", "distill.batch_size": "8", "distill.max_steps": "30"}


def line(workshop: Workshop) -> list[Made]:
    """Pruned and distilled, twice over."""
    made = [workshop.original]
    for step in [step for step in workshop.request.recipe.steps if step.stage.name in ("prune", "distill")] * 2:
        made.append(workshop.stage(step, made[-1]))
    return made


def test_what_had_less_time_is_found_again_and_never_taken_for_a_whole_training(
    tmp_path: Path, torch_alone: Any
) -> None:
    model, data = model_folder("bert", tmp_path / "model", layers=2), text_data(tmp_path)
    options: dict[str, Any] = {"data": data, "target": "x86-64-vnni", "workload": WORKLOAD, "settings": SETTINGS}
    request, cache = resolve_request(model, **options), Cache(tmp_path / "cache")
    hurried = Workshop(request, cache, Silent())
    hurried.left = lambda: -1.0
    short = line(hurried)
    assert [read_details(made.artifact).get("steps") for made in short[1:]] == [None, 10, None, 10]
    assert hurried.decisions.inside("distill.steps") == {"distill.steps.1.1": [10, 10], "distill.steps.2.1": [10, 10]}

    again = Workshop(request, cache, Silent())  # the same run goes on, with time: what is decided stays
    assert [made.key for made in line(again)] == [made.key for made in short]

    other = Workshop(dataclasses.replace(request, workload=WORKLOAD.model_copy(update={"tokens": 12})), cache, Silent())
    assert other.folder != hurried.folder
    steps = [step for step in request.recipe.steps if step.stage.name == "distill"]
    whole = other.stage(steps[0], short[1])
    assert whole.key != short[2].key
    assert read_details(whole.artifact)["steps"] == 30
    shared = cache.root / "work" / request.shared_key()
    assert list((cache.root / "work").iterdir()) == [shared]
    assert (shared / "answers-8-auto-fp32" / "states-2.bin").is_file()
    hurried.forget_shared()
    assert not shared.exists()
