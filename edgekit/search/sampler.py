"""Shapes to compare, proposed by optuna from those that were compared: the loss and the cost of each, both to be small.

The proposals lie in a journal on disk, so that a search that was killed goes on with all that it had learned (Akiba et
al. 2019, Optuna: A Next-generation Hyperparameter Optimization Framework). The sampler is the tree-structured Parzen
estimator for several objectives (Ozaki et al. 2020, Multiobjective Tree-Structured Parzen Estimator).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.search.space import Shape, Space

if TYPE_CHECKING:
    import optuna

NAME, LAYERS, IMPORTANCE = "shapes", "layers", "importance"
# Proposals that are drawn before the sampler learns from them; those of the base recipe's neighbours come before.
STARTING = 4
# How often a proposal that was made before is drawn again, before it is taken.
DRAWS = 20


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

    def suggest(self, shape: Shape) -> tuple[int, Shape]:
        """The number of a proposal, and its shape."""
        made = {(t.params.get(LAYERS), t.params.get(IMPORTANCE)) for t in self._study.trials if t.params}
        for _ in range(DRAWS):
            trial = self._study.ask()
            layers = trial.suggest_categorical(LAYERS, self._space.layer_choices or (0,))
            importance = trial.suggest_categorical(IMPORTANCE, self._space.importances)
            if (layers, importance) not in made:
                break
            self._study.tell(trial, state=_failed())
        return trial.number, replace(shape, layers=layers or None, importance=importance)

    def tell(self, proposal: int, figures: Sequence[float] | None) -> None:
        """What came of a proposal: loss and cost, or None where it failed; a second answer is not heard."""
        if self._study.trials[proposal].state.is_finished():
            return
        if figures is None:
            self._study.tell(proposal, state=_failed())
        else:
            self._study.tell(proposal, list(figures))


def _failed() -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _open(file: Path, seed: int) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(file))),
        study_name=NAME,
        directions=["minimize", "minimize"],
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTING),
        load_if_exists=True,
    )
