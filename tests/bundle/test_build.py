from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle.bundles import FAMILIES, bundle_of

from edgekit.artifact import Artifact, walk, write_artifact
from edgekit.bundle.build import find_content, is_bundle, make_bundle
from edgekit.bundle.check import check_bundle
from edgekit.bundle.forms import served
from edgekit.bundle.platforms import PLATFORMS
from edgekit.bundle.schema import Bundle, SelfTest, json_schema
from edgekit.errors import ModelError, UnknownNameError, UsageError, VerificationError

Artifacts = Callable[[str], Artifact]
Bundles = Callable[[str, str], Path]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_platform_gets_a_sound_bundle(bundles: Bundles, platform: str, family: str) -> None:
    record = check_bundle(bundles(platform, family))
    assert record.problems == ()
    assert record.files == len(walk(bundles(platform, family)))


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in walk(folder)}


@pytest.mark.parametrize("form", ["onnx", "ort"])
def test_two_builds_are_the_same_bytes(artifacts: Artifacts, tmp_path: Path, form: str) -> None:
    first, second = (bundle_of(artifacts("bert"), "python", tmp_path / name, form) for name in ("one", "two"))
    assert digests(first) == digests(second)


def test_an_earlier_bundle_is_replaced_and_anything_else_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    out = bundle_of(artifacts("bert"), "c", tmp_path / "out")
    assert is_bundle(bundle_of(artifacts("bert"), "python", out))
    assert not (out / "edgekit_model.c").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="exists and was not made by edgekit"):
        make_bundle(artifacts("bert").path, "python", other)
    assert (other / "thesis.txt").is_file()


def test_a_bundle_to_which_something_was_added_is_not_replaced(artifacts: Artifacts, tmp_path: Path) -> None:
    out = bundle_of(artifacts("bert"), "python", tmp_path / "out")
    (out / "mine.py").write_text("precious")
    with pytest.raises(UsageError, match="or not all that is in it"):
        make_bundle(artifacts("bert").path, "python", out)
    assert (out / "mine.py").read_text() == "precious"


def test_the_schema_beside_the_module_is_that_of_the_module() -> None:
    from edgekit.bundle import schema

    published = Path(schema.__file__).with_name("bundle.schema.json").read_text(encoding="utf-8")
    assert published == json_schema()


def test_the_description_says_what_goes_in_and_comes_out(bundles: Bundles) -> None:
    content = find_content(bundles("python", "bert"))
    assert content is not None
    said = Bundle.model_validate_json((content / "bundle.json").read_bytes())
    assert [tensor.name for tensor in said.model.inputs] == ["input_ids", "token_type_ids", "attention_mask"]
    assert said.preprocessing.kind == "text"
    assert said.preprocessing.family == "wordlevel"
    assert (said.answer.activation, said.answer.count) == ("softmax", 2)
    assert said.model.inputs[0].high == 59
    stored = SelfTest.model_validate_json((content / said.selftest).read_bytes())
    assert len(stored.cases) >= 8
    assert stored.cases[0].inputs["input_ids"].dtype == "int64"


def test_images_are_described_by_ordered_steps(bundles: Bundles) -> None:
    content = find_content(bundles("python", "vit"))
    assert content is not None
    said = json.loads((content / "bundle.json").read_text(encoding="utf-8"))
    assert [step["op"] for step in said["preprocessing"]["steps"]] == ["resize", "scale", "normalize", "layout"]
    assert (said["model"]["inputs"][0]["low"], said["model"]["inputs"][0]["high"]) == pytest.approx((-1, 1))


def test_the_ort_form_comes_with_the_operators_of_a_reduced_build(artifacts: Artifacts, tmp_path: Path) -> None:
    out = bundle_of(artifacts("bert"), "c", tmp_path / "out", "ort")
    said = json.loads((out / "bundle/bundle.json").read_text(encoding="utf-8"))
    assert said["model"]["forms"] == [{"file": "model/model.ort", "format": "ort", "serves": "amd64"}]
    operators = (out / "bundle/model/required_operators.config").read_text(encoding="utf-8")
    assert "ai.onnx;" in operators
    assert str(tmp_path) not in operators


def test_an_unknown_platform_lists_the_known_ones(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="there is no platform 'pyton'") as caught:
        make_bundle(artifacts("bert").path, "pyton", tmp_path / "out")
    assert caught.value.id == "unknown-name.platform"
    assert caught.value.hint == "Did you mean 'python'?"


def test_a_form_that_does_not_go_is_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--form tflite does not go with this bundle") as caught:
        make_bundle(artifacts("bert").path, "python", tmp_path / "out", "tflite")
    assert caught.value.id == "usage.bundle-form"
    assert "for this platform and artifact: onnx, ort" in caught.value.why


@pytest.mark.parametrize("target", ["my-board", "/etc/hostname", "~/target.toml", "../target.toml"])
def test_a_target_that_is_not_shipped_is_no_path(artifacts: Artifacts, target: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifacts("bert").path, tmp_path / "artifact"))
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8")) | {"target": target}
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    make_bundle(copy, "python", tmp_path / "out")
    assert check_bundle(tmp_path / "out").problems == ()


def test_a_changed_artifact_is_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifacts("bert").path, tmp_path / "artifact"))
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(VerificationError, match=r"model\.onnx: changed"):
        make_bundle(copy, "python", tmp_path / "out")


def test_a_bundle_that_answers_otherwise_is_not_put_into_place(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.bundle.build.self_test", lambda folder: ["sample 3: the output differs"])
    with pytest.raises(VerificationError, match="sample 3") as caught:
        make_bundle(artifacts("bert").path, "python", tmp_path / "out")
    assert caught.value.id == "verification.bundle-differs"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "architecture", "serves"),
    [
        ("c", None, "amd64"),
        ("c", "x86_64", "amd64"),
        ("c", "aarch64", "arm"),
        ("c", "armv7l", "arm"),
        ("node", "aarch64", "arm"),
        ("web", "x86_64", "any"),
        ("web", None, "any"),
        *(
            (name, architecture, "arm")
            for name in ("android", "ios", "flutter", "react-native")
            for architecture in (None, "x86_64")
        ),
    ],
)
def test_an_ort_file_is_made_for_the_processors_of_the_platform_then_of_the_target(
    platform: str, architecture: str | None, serves: str
) -> None:
    assert served(PLATFORMS[platform].serves, architecture) == serves


def test_a_bundle_for_phones_of_an_artifact_for_this_machine_is_made_for_phones(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    assert artifacts("bert").manifest.target == "x86-64"
    out = bundle_of(artifacts("bert"), "android", tmp_path / "out", "ort")
    said = json.loads((out / "model/src/main/assets/bundle/bundle.json").read_text(encoding="utf-8"))
    assert said["model"]["forms"][0]["serves"] == "arm"
    assert check_bundle(out).problems == ()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_ids_of_another_type_than_the_code_feeds_are_refused(
    artifacts: Artifacts, platform: str, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(artifacts("bert").path, tmp_path / "artifact"))
    manifest = artifacts("bert").manifest
    component = manifest.components["model"]
    inputs = tuple(spec.model_copy(update={"dtype": "uint16"}) for spec in component.inputs)
    changed = component.model_copy(update={"inputs": inputs})
    write_artifact(copy, manifest.model_copy(update={"components": {"model": changed}}))
    with pytest.raises(ModelError, match="its 'input_ids' is uint16") as caught:
        make_bundle(copy, platform, tmp_path / "out")
    assert caught.value.id == "model.not-bundled"
    assert caught.value.why.startswith(f"the code for {platform} has int64")
