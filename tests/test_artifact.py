from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tiny import manifest

from edgekit import placing
from edgekit.artifact import (
    MANIFEST,
    SUMS,
    Artifact,
    Component,
    State,
    TensorSpec,
    is_artifact,
    open_artifact,
    write_artifact,
)
from edgekit.errors import ArtifactError, UsageError
from edgekit.placing import check_output, publish
from edgekit.sealing import find_tampering, seal
from edgekit.source import sha256_file

CONTENTS = {"model.onnx": b"graph", "model.onnx.data": b"w" * 50, "golden/model.safetensors": b"golden"}


def make(root: Path, contents: dict[str, bytes] | None = None) -> Artifact:
    """A sealed directory."""
    for name, content in (contents or CONTENTS).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    part = Component(files=("model.onnx", "model.onnx.data"), inputs=(), outputs=())
    artifact = write_artifact(root, manifest(components={"model": part}))
    (root / "report.json").write_text("{}")
    seal(root)
    return artifact


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    return make(tmp_path / "out").path


def test_what_is_written_is_opened(sealed: Path) -> None:
    artifact = open_artifact(sealed)
    assert artifact.manifest.files == {name: sha256_file(sealed / name) for name in CONTENTS}
    assert (artifact.format, artifact.size_bytes) == ("onnx", 55)
    assert artifact.folder_bytes == sum(path.stat().st_size for path in sealed.rglob("*") if path.is_file())
    assert artifact.file() == sealed / "model.onnx"
    assert find_tampering(sealed) == []
    names = (*CONTENTS, MANIFEST, "report.json")
    assert seal(sealed) == {name: sha256_file(sealed / name) for name in names}


def test_a_copy_has_the_sum_of_what_it_was_made_of(tmp_path: Path) -> None:
    name, of_original = "model.onnx", hashlib.sha256(b"graph").hexdigest()
    (tmp_path / name).write_bytes(b"grapH")
    (tmp_path / "golden.txt").write_bytes(b"golden")
    manifest_ = manifest(components={"model": Component(files=(name,), inputs=(), outputs=())})
    found = write_artifact(tmp_path, manifest_, {name: of_original, "elsewhere": "0" * 64})
    assert found.manifest.files == {name: of_original, "golden.txt": hashlib.sha256(b"golden").hexdigest()}
    seal(tmp_path)
    assert find_tampering(tmp_path) == [f"{name}: not what {MANIFEST} says"]


def test_equal_contents_give_equal_manifests(sealed: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    assert (other.path / MANIFEST).read_bytes() == (sealed / MANIFEST).read_bytes()
    assert (other.path / SUMS).read_bytes() == (sealed / SUMS).read_bytes()


def test_what_is_measured_is_not_part_of_the_manifest(sealed: Path) -> None:
    assert "report.json" not in open_artifact(sealed).manifest.files
    assert "report.json" in (sealed / SUMS).read_text()


def test_sha256sum_accepts_the_sums(sealed: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("this machine has no sha256sum")
    done = subprocess.run(["sha256sum", "-c", "--strict", SUMS], cwd=sealed, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.splitlines()) == sorted(f"{name}: OK" for name in [*CONTENTS, MANIFEST, "report.json"])


@pytest.mark.parametrize("name", [*CONTENTS, MANIFEST, "report.json"])
def test_one_changed_byte_of_any_file_is_named(sealed: Path, name: str) -> None:
    content = bytearray((sealed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (sealed / name).write_bytes(content)
    assert find_tampering(sealed) == [f"{name}: changed"]


@pytest.mark.parametrize("name", [*CONTENTS, MANIFEST])
def test_a_missing_file_is_named(sealed: Path, name: str) -> None:
    (sealed / name).unlink()
    assert find_tampering(sealed) == [f"{name}: missing"]


@pytest.mark.parametrize("name", ["added.txt", ".hidden", "golden/added", "deep/er/added"])
def test_an_added_file_is_named(sealed: Path, name: str) -> None:
    (sealed / name).parent.mkdir(parents=True, exist_ok=True)
    (sealed / name).write_text("")
    assert find_tampering(sealed) == [f"{name}: added"]


def test_a_renamed_file_is_named_twice(sealed: Path) -> None:
    (sealed / "model.onnx").rename(sealed / "moved.onnx")
    assert find_tampering(sealed) == ["model.onnx: missing", "moved.onnx: added"]


def test_an_added_link_is_named(sealed: Path, tmp_path: Path) -> None:
    (sealed / "to-folder").symlink_to(tmp_path)
    (sealed / "to-nothing").symlink_to(tmp_path / "nothing")
    assert find_tampering(sealed) == ["to-folder: added", "to-nothing: added"]


@pytest.mark.parametrize("aim", ["copy", "nothing", "folder"])
def test_a_file_that_became_a_link_is_named(sealed: Path, tmp_path: Path, aim: str) -> None:
    shutil.copyfile(sealed / "model.onnx", tmp_path / "copy")
    (tmp_path / "folder").mkdir()
    (sealed / "model.onnx").unlink()
    (sealed / "model.onnx").symlink_to(tmp_path / aim)
    assert find_tampering(sealed) == ["model.onnx: changed"]


def test_sums_that_were_made_anew_do_not_hide_what_the_manifest_says(sealed: Path) -> None:
    (sealed / "model.onnx").write_bytes(b"other")
    seal(sealed)
    assert find_tampering(sealed) == [f"model.onnx: not what {MANIFEST} says"]


def test_a_broken_list_of_sums_is_named(sealed: Path) -> None:
    (sealed / SUMS).write_text("no sums\n")
    assert find_tampering(sealed) == [f"{SUMS}: line 1 is not a sum and a name"]


def test_a_list_of_sums_that_names_a_file_twice_is_named(sealed: Path) -> None:
    lines = (sealed / SUMS).read_text()
    name = lines.splitlines()[0].partition("  ")[2]
    (sealed / SUMS).write_text(f"{'0' * 64}  {name}\n{lines}")
    assert find_tampering(sealed) == [f"{SUMS}: line 2 names {name!r} again"]


def test_a_file_that_became_a_pipe_is_named_and_not_waited_for(sealed: Path) -> None:
    (sealed / "model.onnx").unlink()
    os.mkfifo(sealed / "model.onnx")
    assert find_tampering(sealed) == ["model.onnx: changed"]
    with pytest.raises(ArtifactError, match="it is no plain file"):
        open_artifact(sealed)


@pytest.mark.parametrize("name", ["README.md", "report.json", "golden/model.safetensors", "a/link/of/nobody"])
def test_a_link_is_not_followed_whether_the_manifest_names_it_or_not(sealed: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "private.txt").write_text("a key")
    (sealed / name).parent.mkdir(parents=True, exist_ok=True)
    (sealed / name).unlink(missing_ok=True)
    (sealed / name).symlink_to(tmp_path / "private.txt")
    with pytest.raises(ArtifactError, match=f"{name}' is no plain file") as caught:
        open_artifact(sealed)
    assert caught.value.id == "artifact.invalid-file"


def test_what_was_never_sealed_is_an_error(sealed: Path) -> None:
    (sealed / SUMS).unlink()
    with pytest.raises(ArtifactError, match=f"is not sealed\nit has no {SUMS}"):
        find_tampering(sealed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "format: Field required"),
        ("{", "Invalid JSON"),
        ('{"schema": "edgekit.artifact/2"}', "schema: Input should be 'edgekit.artifact/1'"),
    ],
)
def test_a_manifest_that_is_not_ours_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="is no valid manifest") as caught:
        open_artifact(tmp_path)
    assert message in caught.value.why


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    assert not is_artifact(tmp_path)
    with pytest.raises(ArtifactError, match=f"is not an artifact\nit has no {MANIFEST}"):
        open_artifact(tmp_path)


def test_an_output_is_new_empty_or_ours(sealed: Path, tmp_path: Path) -> None:
    check_output(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty")
    check_output(sealed)
    assert (sealed / "model.onnx").read_bytes() == b"graph"


@pytest.mark.parametrize(
    "manifest",
    ['{"manifest_version": 3}', '{"schema": "other/1"}', "[]", "no json", '{"schema": "edgekit.artifact/1"}'],
)
def test_a_folder_with_a_manifest_and_more_is_not_ours(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "background.js").write_text("precious")
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(UsageError, match="exists and was not made by edgekit, or not all that is in it"):
        check_output(tmp_path)


def test_an_output_to_which_something_was_added_is_not_replaced(sealed: Path) -> None:
    (sealed / "notes").mkdir()
    (sealed / "notes" / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="or not all that is in it"):
        check_output(sealed)


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_anything_else_is_refused(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
    elif kind == "file":
        out.write_text("years of work")
    else:
        out.symlink_to(tmp_path / "nothing")
    staged = make(tmp_path / "staged").path
    with pytest.raises(UsageError, match="exists and was not made by edgekit"):
        publish(staged, out)
    assert is_artifact(staged)
    if kind == "folder":
        assert (out / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["volume", "link"])
def test_a_mount_point_is_refused_though_it_is_empty(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "link").symlink_to(volume)
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == str(volume))
    with pytest.raises(UsageError, match="is a mount point") as caught:
        check_output(tmp_path / name)
    assert caught.value.id == "usage.output-taken"
    assert caught.value.hint == f"Name a folder inside it: {tmp_path / name / 'model'}"
    check_output(tmp_path / name / "model")


def test_a_mount_point_that_is_seen_late_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(staged: Path, out: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(staged), None, str(out))

    staged = make(tmp_path / "staged").path
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(UsageError, match="is a mount point"):
        publish(staged, tmp_path / "out")
    assert is_artifact(staged)


@pytest.mark.parametrize("there", ["nothing", "empty", "an earlier output"])
@pytest.mark.parametrize("exchange", [True, False])
def test_publishing_leaves_the_new_and_nothing_else(
    tmp_path: Path, there: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(placing, "exchange", lambda one, other: False)
    out = tmp_path / "place" / "out"
    if there == "empty":
        out.mkdir(parents=True)
    elif there != "nothing":
        make(out, CONTENTS | {"old.txt": b"old"})
    staged = make(tmp_path / "staged", CONTENTS | {"new.txt": b"new"}).path
    publish(staged, out)
    assert (out / "new.txt").read_bytes() == b"new"
    assert not (out / "old.txt").exists()
    assert find_tampering(out) == []
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_output_that_another_run_puts_there_meanwhile_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, staged = tmp_path / "out", make(tmp_path / "staged", CONTENTS | {"new.txt": b"new"}).path

    def write_through(folder: Path) -> None:
        make(out, CONTENTS | {"old.txt": b"old"})

    monkeypatch.setattr(placing, "write_through", write_through)
    publish(staged, out)
    assert ((out / "new.txt").exists(), (out / "old.txt").exists(), staged.exists()) == (True, False, False)


def test_what_is_published_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = make(tmp_path / "staged").path
    (staged / "deeper").mkdir()
    (staged / "deeper" / "file").write_text("one")
    written: set[int] = set()

    def fsync(descriptor: int) -> None:
        assert not (tmp_path / "out").exists()
        written.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr("edgekit.placing.os.fsync", fsync)
    expected = {path.stat().st_ino for path in (staged, *staged.rglob("*"))}
    publish(staged, tmp_path / "out")
    assert written == expected


@pytest.mark.parametrize("name", [SUMS, "model.onnx", "manifest.json"])
def test_a_link_to_a_copy_of_a_file_is_a_change(sealed: Path, name: str) -> None:
    (sealed / name).rename(sealed.parent / name)
    (sealed / name).symlink_to(sealed.parent / name)
    assert find_tampering(sealed) == [f"{name}: changed"]


def test_the_exchange_swaps_two_folders_in_one_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    make(one, CONTENTS | {"one.txt": b""})
    make(other, CONTENTS | {"other.txt": b""})
    inodes = one.stat().st_ino, other.stat().st_ino
    if not placing.exchange(one, other):
        pytest.skip("this system has no renameat2")
    assert (other.stat().st_ino, one.stat().st_ino) == inodes
    assert (one / "other.txt").exists()
    assert (other / "one.txt").exists()


def test_publishing_through_a_link_to_an_earlier_output(tmp_path: Path) -> None:
    make(tmp_path / "real", CONTENTS | {"old.txt": b"old"})
    (tmp_path / "out").symlink_to(tmp_path / "real")
    staged = make(tmp_path / "staged", CONTENTS | {"new.txt": b"new"}).path
    publish(staged, tmp_path / "out")
    assert (tmp_path / "out" / "new.txt").read_bytes() == b"new"
    assert not staged.exists()
    assert not staged.is_symlink()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"files": {}}, "it has no sum of it among its files"),
        ({"part": "README.md"}, "edgekit has a file of its own with that name beside the model"),
        ({"part": "Report.json"}, "edgekit has a file of its own with that name beside the model"),
    ],
)
def test_each_part_of_a_model_has_a_sum(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    artifact = make(tmp_path / "out")
    name = changes.get("part", "model.onnx")
    part = Component(files=(name,), inputs=(), outputs=())
    described = artifact.manifest.model_copy(
        update={"components": {"model": part}, "files": changes.get("files", {name: "0" * 64})}
    )
    (artifact.path / MANIFEST).write_text(described.model_dump_json(by_alias=True))
    with pytest.raises(ArtifactError, match=f"names '{name}'") as caught:
        open_artifact(artifact.path)
    assert (caught.value.id, caught.value.why) == ("artifact.invalid-file", why)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dtype": "float99"}, "'x' has the type 'float99'; allowed: bool, float16, "),
        ({"dtype": "int8,int8"}, "'x' has the type 'int8,int8'; allowed: bool, float16, "),
        ({"shape": ("batch", -1)}, "'x' has the shape ['batch', -1]"),
    ],
)
@pytest.mark.parametrize("side", ["inputs", "outputs", "states"])
def test_a_tensor_that_nobody_could_make_is_an_error(
    tmp_path: Path, side: str, changes: dict[str, Any], why: str
) -> None:
    artifact = make(tmp_path / "out")
    spec = TensorSpec(**({"name": "x", "dtype": "float32", "shape": ("batch", 2)} | changes))
    state = State(output="y", input="x", initial=spec.shape, dtype=spec.dtype)
    sides: dict[str, Any] = {"inputs": (), "outputs": (), side: (state if side == "states" else spec,)}
    part = Component(files=("model.onnx",), **sides)
    described = artifact.manifest.model_copy(update={"components": {"model": part}, "files": {"model.onnx": "0" * 64}})
    (artifact.path / MANIFEST).write_text(described.model_dump_json(by_alias=True))
    with pytest.raises(ArtifactError, match="is no valid manifest") as caught:
        open_artifact(artifact.path)
    assert caught.value.why.startswith(why)


def test_no_artifact_is_written_whose_weights_would_have_no_sum(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "README.md").write_bytes(b"weights")
    part = Component(files=("model.onnx", "README.md"), inputs=(), outputs=())
    with pytest.raises(ArtifactError, match=r"names 'README.md'"):
        write_artifact(tmp_path, manifest(components={"model": part}))


def test_only_the_list_at_the_top_is_the_list(sealed: Path) -> None:
    (sealed / "golden" / SUMS).write_text("weights")
    assert find_tampering(sealed) == [f"golden/{SUMS}: added"]
    seal(sealed)
    assert find_tampering(sealed) == []
    (sealed / "golden" / SUMS).write_text("other weights")
    assert find_tampering(sealed) == [f"golden/{SUMS}: changed"]


@pytest.mark.parametrize("name", [".DS_Store", "stages/Thumbs.db"])
def test_what_a_system_puts_into_an_output_is_not_in_the_way(sealed: Path, name: str) -> None:
    (sealed / name).parent.mkdir(exist_ok=True)
    (sealed / name).touch()
    check_output(sealed)
