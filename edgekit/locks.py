"""``recipe.lock.toml``: the recipe of a run with what was decided in it, so that it repeats."""

from __future__ import annotations

import json

from edgekit.environment import numeric_level, versions
from edgekit.recipe import Lock
from edgekit.settings import toml_text
from edgekit.workshop import Workshop


def lock_text(workshop: Workshop) -> str:
    """The recipe of a run with every setting, and everything else that decides its bytes, as TOML."""
    request = workshop.request
    lock = Lock(
        target=request.target.name,
        source=request.source.digest,
        data=request.data.digest if request.data else "",
        seed=request.seed,
        jobs=request.jobs,
        threads=request.threads,
        workload=request.workload,
        numeric_level=numeric_level(),
        versions=versions(),
        # by name at every depth, as they lie on the disk: a run that was stopped reads them there
        decisions=json.loads(json.dumps(workshop.decisions.known, sort_keys=True)),
    )
    recipe = request.recipe.as_dict()
    recipe["limits"] = request.limits.model_dump(mode="json", exclude_none=True, exclude={"time"})  # of this run
    text = toml_text({**recipe, "lock": lock.model_dump(mode="json")})
    return "# With this file as --recipe, the run repeats.\n" + text
