"""The scripts that train models of the assets: nothing that is not whole is where an asset is looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny


@pytest.mark.parametrize("whole", [True, False])
def test_a_training_that_is_stopped_leaves_no_model(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: bool
) -> None:
    from datasets import Dataset, DatasetDict

    script, model = load("train_minilm_sst2"), tiny.save(tiny.build("bert", layers=1), tmp_path / "model")
    rows = tiny.labelled(8)
    data = DatasetDict(train=Dataset.from_dict({"sentence": rows["text"], "label": rows["label"]}))

    class Trainer(script.Trainer):  # type: ignore[misc, name-defined]  # of transformers
        def train(self) -> None:
            if not whole:
                raise KeyboardInterrupt

    monkeypatch.setattr(script, "Trainer", Trainer)
    monkeypatch.setattr(script, "load_dataset", lambda name: data)
    monkeypatch.setattr("sys.argv", ["train_minilm_sst2.py", str(tmp_path / "out"), "--base", str(model)])
    if whole:
        script.main()
    else:
        with pytest.raises(KeyboardInterrupt):
            script.main()
    assert (tmp_path / "out" / "config.json").is_file() == (tmp_path / "out").exists() == whole


def test_models_are_trained_to_where_they_are_looked_for(load: Any) -> None:
    run = load("run")
    for key, name in (("minilm-sst2", "train_minilm_sst2"), ("fashion-mnist-vit", "train_fashion_mnist_vit")):
        assert run.asset(key)["script"] == f"benchmarks/{name}.py"
        assert run.ARTIFACTS / run.asset(key)["path"] == load(name).OUTPUT
