from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli.samples import make_report
from records import MODEL, make_record, p50
from render.made import PROFILES

from edgekit.errors import VerificationError
from edgekit.gate.record import Accuracy, Metric
from edgekit.measure.profile import find_changes
from edgekit.profiles import ProfileRecord
from edgekit.report import Count, DeviceCheck, EvalRecord, Measurement, TimedOn
from edgekit.tasks.base import Workload

BENCH = make_record(
    p50(6.8, n=900, ci_low=6.7, ci_high=6.9, level=0.95),
    Metric(name="latency.p99", unit="ms", value=None, n=20, reason="too few runs"),
    Metric(name="memory.peak", unit="bytes", value=81_000_000),
    Metric(name="size", unit="bytes", value=17_100_000),
    host={"fingerprint": "ab", "processor": "a processor", "features": [f"f{number}" for number in range(99)]},
    warnings=("the clock was not fixed",),
)
GATE = make_record(
    p50(6.8, n=900, baseline=6.5, delta=0.0462, delta_ci=(0.0411, 0.0507), margin=0.01, verdict="regression"),
    Metric(name="energy", unit="uJ", value=None, margin=0.05, verdict="invalid", reason="no counter"),
    Metric(name="accuracy", unit="1", direction="higher", value=0.91, baseline=0.912, n=500, delta=-0.002),
    baseline=MODEL,
    accuracy=Accuracy(metric="accuracy", candidate=0.91, baseline=0.912, n=500, lost=3, gained=2, p_value=1.0),
    verdict="regression",
)
EVAL = EvalRecord(
    subject={"path": "out"},
    runtime={"name": "onnxruntime"},
    data={"split": "validation"},
    metrics=(Measurement(name="accuracy", unit="1", value=0.9106, n=872, ci_low=0.89, ci_high=0.93, level=0.95),),
)
NOTHING_NAMED = {
    **dict.fromkeys(("provider", "device", "target", "baseline", "gate", "data", "budget_s", "preset")),
    "seed": 0,
}
COUNT = Count(device="toy-a76, emulated", instructions=12_300_000, kernels={"sdot": 7}, runtime="onnxruntime 1.30")
CHECK = DeviceCheck(
    device="toy-a76, emulated",
    runtime="onnxruntime 1.30",
    n=128,
    agree=127,
    largest_difference=1e-3,
    metric="accuracy",
    here=0.91,
    there=0.90,
)
ANSWERS = [[("positive", 0.99), ("negative", 0.01)], [("negative", 0.98), ("positive", 0.02)]]


def test_eval_passes_its_options_and_tells_the_metric(run, pretend, recorder):
    evaluate = recorder(EVAL)
    pretend(evaluate=evaluate)
    result = run("eval", "out", "--data", "d", "--split", "test", "--columns", "text=s", "--threads", "2")
    assert result.code == 0
    assert evaluate.arguments == ("out", "d")
    assert evaluate.keywords["split"] == "test"
    assert evaluate.keywords["columns"] == {"text": "s"}
    assert (evaluate.keywords["threads"], evaluate.keywords["batch"], evaluate.keywords["seed"]) == (2, 1, 0)
    assert hasattr(evaluate.keywords["progress"], "advance")
    assert "accuracy   91.1%   89.0% to 93.0% (95%)   872" in result.stdout


def test_eval_gives_one_document(run, pretend, recorder):
    pretend(evaluate=recorder(EVAL))
    document = run("eval", "out", "--data", "d", "--json").document
    assert document["schema"] == "edgekit.eval/1"
    assert document["metrics"][0]["value"] == 0.9106


def test_bench_passes_its_workload_and_tells_every_metric(run, pretend, recorder):
    bench = recorder(BENCH)
    pretend(bench=bench)
    result = run("bench", "out", "--image", "224", "--threads", "2", "--batch", "4")
    assert result.code == 0
    assert hasattr(bench.keywords.pop("progress"), "advance")
    assert bench.keywords == {"threads": 2, "workload": Workload(batch=4, image=224), **NOTHING_NAMED}
    assert "6.8 ms" in result.stdout
    assert "6.7 ms to 6.9 ms (95%)" in result.stdout
    assert "not measured: too few runs" in result.stdout
    assert "17.1 MB" in result.stdout
    assert "features" not in result.stdout
    assert "-  the clock was not fixed" in result.stdout


def test_bench_leaves_the_workload_to_the_api_unless_told(run, pretend, recorder):
    bench = recorder(BENCH)
    pretend(bench=bench)
    run("bench", "out", "--provider", "cuda", "--device", "emulated", "--target", "arm64")
    del bench.keywords["progress"]
    named = {"provider": "cuda", "device": "emulated", "target": "arm64"}
    assert bench.keywords == {"threads": 1, "workload": None, **NOTHING_NAMED, **named}


def test_bench_tells_what_was_counted_and_on_which_device(run, pretend, recorder):
    pretend(
        bench=recorder(BENCH.model_copy(update={"counts": (COUNT,), "timed_on": TimedOn(device="a board, over ssh")}))
    )
    told = " ".join(run("bench", "out", "--device", "emulated").stdout.split())
    assert "toy-a76, emulated, ONNX Runtime 1.30: 12.3 million instructions an inference; kernels: sdot" in told
    assert "timed on device a board, over ssh" in told


def test_eval_tells_who_answered_and_how_a_device_does(run, pretend, recorder):
    host = {"processor": "a processor", "features": ["f"], "cores": 2}
    evaluate = recorder(EVAL.model_copy(update={"host": host, "devices": (CHECK,), "warnings": ("not the target",)}))
    pretend(evaluate=evaluate)
    result = run("eval", "out", "--data", "d", "--device", "emulated", "--target", "arm64", "--limit", "128")
    named = {name: evaluate.keywords[name] for name in ("device", "target", "limit")}
    assert named == {"device": "emulated", "target": "arm64", "limit": 128}
    told = " ".join(result.stdout.split())
    assert "127 of 128 predictions as here; accuracy 90.0% there, 91.0% here" in told
    assert "host processor a processor, cores 2" in told
    assert "- not the target" in told


def test_bench_gives_the_documented_keys(run, pretend, recorder):
    pretend(bench=recorder(BENCH))
    document = run("bench", "out", "--json").document
    assert set(document) == {
        "schema",
        "tool",
        "created",
        "host",
        "timed_on",
        "subject",
        "baseline",
        "runtime",
        "protocol",
        "metrics",
        "accuracy",
        "samples",
        "counts",
        "warnings",
        "verdict",
    }
    assert document["metrics"][1]["value"] is None


def test_profile_passes_both_and_tells_what_changed(run, pretend, recorder):
    profile = recorder(
        ProfileRecord(
            host={"processor": "a processor"},
            subject={"name": "out"},
            compared_with={"name": "model.onnx"},
            protocol={},
            profiles=PROFILES,
            changes=find_changes(PROFILES.before, PROFILES.after),
        )
    )
    pretend(profile=profile)
    result = run("profile", "model.onnx", "out", "--html", "p.html", "--tokens", "64", "--target", "arm64")
    assert result.code == 0
    assert profile.arguments == ("model.onnx", "out")
    del profile.keywords["progress"]
    expected = {"threads": 1, "workload": Workload(tokens=64), "target": "arm64", "output": "p.html"}
    assert profile.keywords == expected
    assert "model.onnx 40.000 ms, out 5.000 ms: 8.0x faster" in result.stdout
    document = run("profile", "model.onnx", "out", "--json").document
    assert (document["schema"], document["changes"][0]["operator"]) == ("edgekit.profile/1", "MatMul")


def test_bench_passes_what_a_gate_is_told(run, pretend, recorder):
    bench = recorder(GATE)
    pretend(bench=bench)
    run("bench", "new", "--baseline", "old", "--gate", "size=1%", "--data", "d", "--budget", "2m", "--preset", "quick")
    named = {"baseline": "old", "gate": "size=1%", "data": "d", "budget_s": 120.0, "preset": "quick"}
    assert {name: bench.keywords[name] for name in named} == named


def test_a_gate_tells_both_sides_the_change_and_the_verdict(run, pretend, recorder):
    pretend(bench=recorder(GATE))
    told = " ".join(run("bench", "new", "--baseline", "old").stdout.split())
    assert "latency.p50 6.5 ms 6.8 ms +4.62% (+4.11 to +1% regression +5.07)" in told
    assert "accuracy 91.20% 91.00% -0.20 pp" in told
    assert "- energy: no counter" in told
    assert "3 answered right by the baseline only, 2 by the candidate only; McNemar's p = 1" in told
    assert told.endswith("verdict: regression")


@pytest.mark.parametrize(
    ("verdict", "options", "code"),
    [
        (None, (), 0),
        ("pass", (), 0),
        ("improvement", ("--strict",), 0),
        ("regression", (), 1),
        ("inconclusive", (), 0),
        ("inconclusive", ("--strict",), 6),
        ("invalid", (), 7),
    ],
)
def test_a_verdict_is_the_exit_code(run, pretend, recorder, verdict, options, code):
    pretend(bench=recorder(GATE.model_copy(update={"verdict": verdict})))
    assert run("bench", "new", *options).code == code


def test_a_result_is_kept_as_it_is_printed(run, pretend, recorder, tmp_path):
    pretend(bench=recorder(GATE))
    document = run("bench", "new", "--save", str(tmp_path / "a.json"), "--json").document
    assert document == json.loads((tmp_path / "a.json").read_text())


def test_bench_refuses_tokens_with_image(run):
    result = run("bench", "out", "--tokens", "64", "--image", "224")
    assert result.code == 2
    assert "--tokens and --image were both given" in result.told


def test_predict_tells_labels_with_scores(run, pretend, recorder):
    predict = recorder(ANSWERS)
    load = recorder(SimpleNamespace(predict=predict))
    pretend(load=load)
    result = run("predict", "out", "a gripping film", "two [bold]long[/bold] hours")
    assert (load.arguments, load.keywords) == (("out",), {"task": None, "threads": 1})
    assert predict.arguments == (["a gripping film", "two [bold]long[/bold] hours"],)
    lines = result.stdout.splitlines()
    assert lines[2].split() == ["a", "gripping", "film", "positive", "0.9900"]
    assert "two [bold]long[/bold] hours" in lines[4]


@pytest.mark.parametrize(("arguments", "labels"), [((), 2), (("--top", "1"), 1)])
def test_predict_gives_all_labels_or_the_top(arguments, labels, run, pretend, recorder):
    pretend(load=recorder(SimpleNamespace(predict=recorder(ANSWERS))))
    document = run("predict", "out", "a", "b", "--json", *arguments).document
    assert document["schema"] == "edgekit.predict/1"
    assert [entry["input"] for entry in document["predictions"]] == ["a", "b"]
    assert [len(entry["labels"]) for entry in document["predictions"]] == [labels, labels]
    assert document["predictions"][1]["labels"][0] == {"label": "negative", "score": 0.98}


def test_predict_turns_a_score_that_is_no_number_into_null(run, pretend, recorder):
    pretend(load=recorder(SimpleNamespace(predict=recorder([[("positive", float("nan"))]]))))
    assert run("predict", "out", "a", "--json").document["predictions"][0]["labels"][0]["score"] is None


def test_verify_tells_files_and_golden_difference(run, pretend, recorder):
    pretend(verify=recorder(SimpleNamespace(files=12, golden={"model": 3.2e-6}, tolerance=1e-4, signed=False)))
    result = run("verify", "out")
    assert result.code == 0
    assert result.stdout.startswith("verified  out\n-  12 files are as they were sealed")
    assert "largest difference 3.2e-06 (tolerance 1e-04)" in result.stdout
    assert run("verify", "out", "--json").document == {
        "schema": "edgekit.verify/1",
        "path": "out",
        "files": 12,
        "golden": {"model": 3.2e-6},
        "tolerance": 1e-4,
        "signed": False,
    }


def test_verify_with_a_key_tells_that_the_signature_was_checked(run, pretend, recorder):
    verify = recorder(SimpleNamespace(files=1, golden={}, tolerance=0.0, signed=True))
    pretend(verify=verify)
    assert "the signature is of this key and of these files" in run("verify", "out", "--key", "public.pem").stdout
    assert run("verify", "out", "--key", "public.pem", "--json").document["signed"] is True


def test_sign_prints_where_the_signature_lies(run, pretend, recorder):
    pretend(sign=recorder(Path("out.sig")))
    assert run("sign", "out", "--key", "private.pem").stdout == "out.sig\n"
    document = run("sign", "out", "--key", "private.pem", "--json").document
    assert document == {"schema": "edgekit.signature/1", "path": "out", "signature": "out.sig"}
    assert run("sign", "out").code == 2


def test_attest_prints_a_document_or_writes_it(run, pretend, recorder, tmp_path):
    pretend(attest=recorder({"bomFormat": "CycloneDX"}))
    assert run("attest", "out").document == {"bomFormat": "CycloneDX"}
    file = tmp_path / "out.cdx.json"
    assert run("attest", "out", "--form", "cyclonedx", "-o", str(file)).stdout == f"{file}\n"
    assert json.loads(file.read_text()) == {"bomFormat": "CycloneDX"}
    written = {"schema": "edgekit.attestation/1", "form": "cyclonedx", "written": str(file)}
    assert run("attest", "out", "-o", str(file), "--json").document == written


def test_verify_exits_with_1_and_names_the_file(run, pretend, recorder):
    pretend(verify=recorder(VerificationError("'out' is not as sealed", why="model.onnx: changed")))
    result = run("verify", "out")
    assert result.code == 1
    assert "model.onnx: changed" in result.stderr


@pytest.mark.parametrize("as_json", [True, False])
def test_demo_reports_like_compress(as_json, run, pretend_module, recorder, tmp_path):
    demo = recorder(make_report(tmp_path / "out"))
    pretend_module("demo", demo=demo)
    result = run("demo", "-o", "out", "--jobs", "2", *["--json"] * as_json)
    assert result.code == 0
    assert (demo.keywords["output"], demo.keywords["jobs"]) == ("out", 2)
    if as_json:
        assert result.document["schema"] == "edgekit.report/1"
    else:
        assert "What each stage did" in result.stdout
