"""The table of stages."""

from __future__ import annotations

from edgekit.stages.base import Stage
from edgekit.stages.distill import DISTILL
from edgekit.stages.export import EXPORT
from edgekit.stages.optimize import OPTIMIZE
from edgekit.stages.prune import PRUNE
from edgekit.stages.quantize import QUANTIZE
from edgekit.stages.verify import VERIFY
from edgekit.stages.vocabulary import VOCABULARY

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (PRUNE, DISTILL, VOCABULARY, EXPORT, OPTIMIZE, QUANTIZE, VERIFY)
}
