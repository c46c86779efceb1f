"""Shapes to compare, proposed by optuna from those that were compared: the loss and the cost of each, both to be small.

The proposals lie in a journal on disk, so that a search that was killed goes on with all that it had learned (Akiba et
al. 2019, Optuna: A Next-generation Hyperparameter Optimization Framework). The sampler is the tree-structured Parzen
estimator for several objectives (Ozaki et al. 2020, Multiobjective Tree-Structured Parzen Estimator).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.cache import name_damage
from edgekit.search.space import Shape, Space

if TYPE_CHECKING:
    import optuna

NAME, LAYERS, IMPORTANCE = "shapes", "layers", "importance"
# Proposals that are drawn before the sampler learns from them; those of the base recipe's neighbours come before.
STARTING = 4
# How often a shape that was proposed before is drawn again.
DRAWS = 6


class ShapeSampler:
    """Proposes shapes that cost about as much as a given one.

    Args:
        file: of the journal.
        space: what there is to choose from.
        seed: of the draws.
    """

    def __init__(self, file: Path, space: Space, seed: int) -> None:
        self._space = space
        self._study = _open(file, seed)
        if not self._study.trials:
            for layers in space.layer_choices or (0,):
                self._study.enqueue_trial({LAYERS: layers, IMPORTANCE: space.importances[0]})

    def suggest(self, shape: Shape, layers: Sequence[int]) -> tuple[int, Shape]:
        """The number of a proposal, and its shape.

        Args:
            shape: that it costs as much as.
            layers: numbers of layers that can; none where there are no layers to choose.
        """
        made = {(t.params.get(LAYERS), t.params.get(IMPORTANCE)) for t in self._study.trials if t.params}
        choices = itertools.product(layers or (0,), self._space.importances)
        new = [choice for choice in choices if choice not in made]
        for draw in range(DRAWS if new else 0):
            number, chosen = self._ask()
            if chosen in new:
                return number, replace(shape, layers=chosen[0] or None, importance=chosen[1])
            self._study.tell(number, state=_failed())
            if draw == DRAWS - 2:  # the sampler insists on what is known: it gets the next one that is not
                self._study.enqueue_trial({LAYERS: new[0][0], IMPORTANCE: new[0][1]})
        number, chosen = self._ask()
        return number, replace(shape, layers=chosen[0] or None, importance=chosen[1])

    def _ask(self) -> tuple[int, tuple[int, str]]:
        trial = self._study.ask()
        layers = trial.suggest_categorical(LAYERS, self._space.layer_choices or (0,))
        return trial.number, (layers, trial.suggest_categorical(IMPORTANCE, self._space.importances))

    def tell(self, proposal: int, figures: Sequence[float] | None) -> None:
        """What came of a proposal: loss and cost, or None where it failed.

        A second answer is not heard, nor one to a proposal of a journal that was lost.
        """
        asked = [trial.number for trial in self._study.trials if trial.state.name == "RUNNING"]
        if proposal not in asked:
            return
        if figures is None:
            self._study.tell(proposal, state=_failed())
        else:
            self._study.tell(proposal, list(figures))


def _failed() -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _open(file: Path, seed: int) -> optuna.Study:
    """The study of a journal; of one that cannot be read, another one: what it proposes is only tried out."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _end_with_a_line(file)
    try:
        return _study(file, seed)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        name_damage(f"{file} is damaged ({error}); shapes are proposed anew")
        file.unlink()
        return _study(file, seed)


def _end_with_a_line(file: Path) -> None:
    """Drop the part of a line that a full disk or a power cut may leave: the next one would be written behind it."""
    content = file.read_bytes() if file.is_file() else b""
    if content and not content.endswith(b"\n"):
        os.truncate(file, content.rfind(b"\n") + 1)


def _study(file: Path, seed: int) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(file))),
        study_name=NAME,
        directions=["minimize", "minimize"],
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTING),
        load_if_exists=True,
    )
