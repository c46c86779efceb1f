from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.samples import ELSEWHERE, QUALITY
from huggingface_hub import ModelCard
from render.made import full_report

from edgekit.artifact import WHOLE, Artifact, Component
from edgekit.render.card import HUB_TASKS, model_card
from edgekit.render.snippets import OPTIMUM
from edgekit.render.wording import limit_text
from edgekit.report import LimitVerdict, Report
from edgekit.tasks import TASKS

HOSTILE = "---\n<script>`x`</script> | [a](b) \"'\n# {{x}}: *"
SOURCE = {"kind": "transformers", "name": "org/model", "commit": "c0ffee", "digest": "d"}
HUB_DATA = {"name": "org/data", "digest": "a" * 40}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def card(report: Report) -> ModelCard:
    """The card as the hub's own package reads it."""
    return ModelCard(model_card(report))


def with_component(report: Report, **changes: Any) -> Report:
    """The report, its artifact's one component changed."""
    artifact = report.artifact
    part = artifact.manifest.components[WHOLE].model_copy(update=changes)
    manifest = artifact.manifest.model_copy(update={"components": {WHOLE: part}})
    return report.located(Artifact(artifact.path, manifest))


def test_metadata_says_what_the_hub_asks(folder: Path) -> None:
    data = card(full_report(folder, source=SOURCE, data=HUB_DATA)).data
    assert data.to_dict() == {
        "base_model": "org/model",
        "base_model_relation": "quantized",
        "datasets": ["org/data"],
        "library_name": "onnx",
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": "org/model-x86-64-vnni",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {
                            "name": "org/data",
                            "type": "org/data",
                            "split": "validation, all of it",
                            "revision": "a" * 40,
                        },
                        "metrics": [{"type": "accuracy", "value": 0.9106, "name": "accuracy"}],
                    }
                ],
            }
        ],
        "pipeline_tag": "text-classification",
        "tags": ["edgekit", "onnx", "int8", "x86-64-vnni"],
    }
    (result,) = data.eval_results
    assert (result.metric_value, result.task_type) == (0.9106, "text-classification")


@pytest.mark.parametrize(
    ("licence", "tagged"), [("mit", "mit"), ("apache-2.0", "apache-2.0"), ("MIT License", None), (None, None)]
)
def test_the_licence_is_the_sources(folder: Path, licence: str | None, tagged: str | None) -> None:
    made = card(full_report(folder, source=SOURCE | ({"licence": licence} if licence else {})))
    assert made.data.to_dict().get("license") == tagged
    assert ("The licence: it is that of the source" in made.text) == (licence is None)


def test_a_local_source_is_no_model_of_the_hub(folder: Path) -> None:
    data = card(full_report(folder)).data.to_dict()
    assert {"base_model", "base_model_relation", "datasets"} & data.keys() == set()


@pytest.mark.parametrize(
    ("precision", "distilled", "relation"),
    [("fp16", True, "quantized"), ("fp32", True, "finetune"), ("fp32", False, None)],
)
def test_the_relation_is_the_strongest_change(
    folder: Path, precision: str, distilled: bool, relation: str | None
) -> None:
    report = full_report(folder, source=SOURCE)
    rows = tuple(
        row.model_copy(update={"kept": row.kept and (distilled or row.stage != "distill")}) for row in report.ledger
    )
    changed = with_component(report.model_copy(update={"ledger": rows}).located(report.artifact), precision=precision)
    assert card(changed).data.to_dict().get("base_model_relation") == relation


def test_without_a_metric_there_are_no_results(folder: Path) -> None:
    made = card(full_report(folder, quality=None, limits=(), data={}))
    assert made.data.eval_results is None
    assert "model-index" not in made.data.to_dict()
    assert "Quality: there was no labelled data, so what was lost is not known." in made.text
    assert "No limit was set." in made.text


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_tag_where_the_hub_knows_it(task: str, folder: Path) -> None:
    data = card(full_report(folder, task=task)).data
    assert data.pipeline_tag == (task if task in HUB_TASKS else None)
    assert data.eval_results[0].task_type == task


@pytest.mark.parametrize(
    ("limit", "bound", "value", "met", "told"),
    [
        ("max_drop", 0.01, 9 / 872, False, "1.03 pp of 1.00 pp lost"),
        ("max_drop", 0.01, 0.0099, True, "1.0 pp of 1.0 pp lost"),
        ("max_drop", 0.01, 0.02, False, "2.0 pp of 1.0 pp lost"),
        ("max_mb", 8.0, 8.004, False, "8.004 MB of 8.000 MB allowed"),
        ("max_ms", 5.0, 5.003, False, "5.003 ms of 5.000 ms allowed"),
    ],
)
def test_a_limit_that_is_missed_by_little_does_not_read_as_kept(
    limit: str, bound: float, value: float, met: bool, told: str, folder: Path
) -> None:
    missed = LimitVerdict(limit=limit, bound=bound, value=value, met=met, proven=None)
    assert limit_text(missed, full_report(folder)) == told


def test_the_card_says_what_was_done_lost_and_not_measured(folder: Path) -> None:
    text = card(full_report(folder)).text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# minilm-sst2 for x86-64-vnni",
        "## What it lost and gained",
        "## What was done",
        "## For which device",
        "## How to run it",
        "## What was not measured",
        "## How it was made",
    ]
    assert "ONNX in INT8, 6.1x faster, 5.3x smaller. Limits: max drop proven (0.2 pp of 1.0 pp lost" in text
    assert "| accuracy (n = 872) | 91.3% | 91.1% | -0.2 pp (90%: -0.8 to +0.5 pp) |" in text
    assert "| latency.p50 | 41.20 ms | 6.80 ms | 6.1x faster |" in text
    assert "12 of 872 predictions changed" in text
    assert "- **optimize**: undone, neither faster nor smaller" in text
    assert "- **prune**: kept, judged with distill; 4 of 6 layers" in text
    assert "Precision: INT8." in text
    assert "| input | `input_ids` | int64 | batch x sequence |" in text
    assert "- Latency on any other device, with any other input, and under other load; energy." in text
    assert "edgekit compress minilm-sst2" in text


def test_what_this_machine_could_not_measure_is_in_the_card(folder: Path) -> None:
    text = card(full_report(folder, measured=False)).text
    assert f"- Latency and memory not measured: {ELSEWHERE.replace('_', chr(92) + '_')}." in text
    assert "faster" not in text.partition("## What was done")[0]
    assert "Latency is of" not in text


def test_an_unfinished_run_says_so(folder: Path) -> None:
    assert "this is the best so far" in card(full_report(folder, status="in progress")).text


def test_each_task_of_transformers_has_its_class_of_optimum() -> None:
    assert OPTIMUM.keys() == {name for name in TASKS if name in HUB_TASKS}


@pytest.mark.parametrize(
    ("preprocessing", "shape", "expected"),
    [
        (
            {"kind": "tokenizer", "max_length": 64},
            ("batch", "sequence"),
            'AutoTokenizer.from_pretrained(".")("a sentence", truncation=True, max_length=64',
        ),
        ({"kind": "image-processor"}, ("batch", 1, 8, 8), 'Image.open("photo.jpg").convert("L")'),
        ({"kind": "image-processor"}, ("batch", 3, 8, 8), 'Image.open("photo.jpg").convert("RGB")'),
        ({"kind": "pixels"}, ("batch", 3, 8, 8), 'load_file("golden/model.safetensors")'),
        ({"kind": "none"}, ("batch", 16), 'load_file("golden/model.safetensors")'),
    ],
)
def test_code_follows_the_pre_processing(
    folder: Path, preprocessing: dict[str, Any], shape: tuple[Any, ...], expected: str
) -> None:
    report = full_report(folder)
    spec = report.artifact.manifest.components[WHOLE].inputs[0].model_copy(update={"shape": shape})
    report = with_component(report, inputs=(spec,))
    manifest = report.artifact.manifest.model_copy(update={"preprocessing": preprocessing})
    text = card(report.located(Artifact(report.artifact.path, manifest))).text
    assert expected in text
    assert ("edgekit verify ." in text) is (preprocessing["kind"] == "none")
    for code in text.split("```python\n")[1:]:
        compile(code.partition("\n```")[0], "card", "exec")


def test_code_is_for_what_can_run_it(folder: Path) -> None:
    assert "ORTModelForSequenceClassification" in card(full_report(folder)).text
    assert "ORTModel" not in card(full_report(folder, source={"kind": "module", "name": "net.py:make"})).text
    report = full_report(folder)
    parts = {name: Component(files=(f"{name}.onnx",), inputs=(), outputs=()) for name in ("encoder", "decoder")}
    manifest = report.artifact.manifest.model_copy(update={"components": parts})
    text = card(report.located(Artifact(report.artifact.path, manifest))).text
    assert "It is made of several graphs, which edgekit drives" in text
    assert "Component `encoder`, precision: FP32." in text


@pytest.mark.parametrize(
    ("provider", "session", "optimum"),
    [
        ("cpu", 'providers=["CPUExecutionProvider"]', 'file_name="model.onnx")'),
        (
            "cuda",
            'providers=["CUDAExecutionProvider", "CPUExecutionProvider"]',
            'file_name="model.onnx", provider="CUDAExecutionProvider")',
        ),
        (
            "tensorrt",
            'providers=["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]',
            'file_name="model.onnx", provider="TensorrtExecutionProvider")',
        ),
    ],
)
def test_code_computes_with_what_the_target_computes_with(
    provider: str, session: str, optimum: str, folder: Path
) -> None:
    text = card(full_report(folder, provider=provider)).text
    assert session in text
    assert optimum in text


def test_hostile_names_stay_text(folder: Path) -> None:
    quality = QUALITY.model_copy(update={"metric": HOSTILE, "split": HOSTILE})
    changes: dict[str, Any] = dict.fromkeys(("target", "runtime", "edgekit", "task"), HOSTILE)
    report = full_report(
        folder,
        quality=quality,
        source={"kind": HOSTILE, "name": HOSTILE, "commit": None},
        data={"name": HOSTILE, "digest": "d"},
        notes=(HOSTILE,),
        options={"columns": {HOSTILE: HOSTILE}},
        **changes,
    )
    made = card(report)
    assert made.data.eval_results[0].metric_type == HOSTILE
    assert made.data.tags[-1] == HOSTILE
    prose = "".join(part for index, part in enumerate(made.text.split("```")) if index % 2 == 0)
    assert "<script>" not in prose.replace("\\<script>", "")
    assert all(line.count(" | ") == 3 for line in made.text.splitlines() if line.startswith("| latency"))
    assert len([line for line in prose.splitlines() if line.startswith("# ")]) == 1


def test_no_path_of_this_machine_is_in_a_card(folder: Path) -> None:
    assert str(folder.parent) not in model_card(full_report(folder))
