from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli.samples import make_report

import edgekit
from edgekit.artifact import MANIFEST, SUMS, Artifact, write_artifact, write_text
from edgekit.errors import ArtifactError, HostError, UsageError
from edgekit.render.html.document import OPENING
from edgekit.report import FILE
from edgekit.reporting import check_page, check_place, find_report
from edgekit.sealing import seal


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, with runs beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def make_run(folder: Path) -> Path:
    """A sealed artifact with a report."""
    report = make_report(folder)
    write_artifact(folder, report.artifact.manifest)
    report.save(folder)
    seal(folder)
    return folder


def test_a_page_is_written_under_the_runs_name(here: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "my run")
    before = sorted(path.name for path in run.iterdir())
    written = edgekit.render_report(run)
    assert written == Path("my run-report.html")
    assert (here / written).read_text().startswith(OPENING)
    assert sorted(path.name for path in run.iterdir()) == before
    assert edgekit.render_report(f"{run}/", "deep/er/page.html").read_text() == (here / written).read_text()


def test_a_report_is_found_by_its_folder_or_its_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert find_report(run).artifact.path == find_report(run / FILE).artifact.path == run


def test_a_run_that_is_not_there_has_neighbours_with_like_names(tmp_path: Path) -> None:
    make_run(tmp_path / "sst2-vnni")
    make_run(tmp_path / "other")
    with pytest.raises(ArtifactError) as caught:
        find_report(tmp_path / "sst2-vni")
    assert caught.value.what == f"there is no run '{tmp_path}/sst2-vni'"
    assert caught.value.hint == f"Did you mean '{tmp_path}/sst2-vnni'?"
    with pytest.raises(ArtifactError, match="Give the output folder of compress"):
        find_report(tmp_path / "nowhere" / "x")


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    for name in ("b", "a"):
        make_run(tmp_path / name)
    with pytest.raises(ArtifactError) as caught:
        find_report(tmp_path)
    assert caught.value.why == f"it has no {FILE}"
    assert caught.value.hint == f"It holds runs: {tmp_path}/a, {tmp_path}/b."
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArtifactError, match="Give the output folder of compress"):
        find_report(empty)


def test_a_file_and_a_stage_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(
        ArtifactError, match=r"is a file, not a run\nallowed: the output folder of compress, or its report\.json"
    ):
        find_report(tmp_path / "model.onnx")
    stage = tmp_path / "stages" / "2-distill"
    stage.mkdir(parents=True)
    (stage / "model.onnx").touch()
    write_artifact(stage, make_report(tmp_path / "x").artifact.manifest)
    with pytest.raises(ArtifactError, match="it is the artifact of a stage, and the report lies in the run's output"):
        find_report(stage)


def test_a_report_of_another_version_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    text = (run / FILE).read_text()
    write_text(run / FILE, text.replace("edgekit.report/1", "edgekit.report/2"))
    with pytest.raises(ArtifactError) as caught:
        edgekit.render_report(run, tmp_path / "page.html")
    assert caught.value.what.endswith("has the schema 'edgekit.report/2'")
    assert caught.value.why == "this edgekit reads 'edgekit.report/1'"
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("inside", ["report.html", "golden/deeper/page.html"])
@pytest.mark.parametrize("marker", [SUMS, MANIFEST])
def test_a_page_inside_an_artifact_is_refused(tmp_path: Path, inside: str, marker: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / marker).write_text("{}")
    with pytest.raises(UsageError, match="lies inside the artifact 'run'\nSHA256SUMS covers every file there"):
        check_page(run / inside)


def test_a_page_inside_an_artifact_is_refused_through_a_link(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(UsageError, match="lies inside the artifact 'run'"):
        check_page(tmp_path / "link" / "page.html")


@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "pipe"])
def test_what_is_no_file_is_not_replaced_by_one(place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is no file\na file is written whole"):
        check_place(tmp_path / place, "result.json")


def test_a_place_that_cannot_be_written_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_place(tmp_path / "new" / "folder" / "r.json", "r.json") == tmp_path / "new" / "folder" / "r.json"
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be made\n'file' is a file\nName a file in a folder, such as r\.json"):
        check_place(tmp_path / "file" / "new" / "r.json", "r.json")
    monkeypatch.setattr("os.access", lambda *given: False)  # root may write anywhere
    with pytest.raises(HostError, match=r"no permission for .*\nnothing may be written into"):
        check_place(tmp_path / "r.json", "r.json")


def test_only_an_earlier_page_is_written_over(tmp_path: Path) -> None:
    run, file = make_run(tmp_path / "run"), tmp_path / "page.html"
    file.write_text("<!doctype html><p>mine</p>")
    with pytest.raises(UsageError, match="exists and is no page of edgekit\nallowed: a new file, or an earlier page"):
        edgekit.render_report(run, file)
    assert file.read_text() == "<!doctype html><p>mine</p>"
    file.write_text(OPENING)
    assert len(edgekit.render_report(run, file).read_text()) > 10_000
    with pytest.raises(UsageError, match=r"is a directory\nName a file: .*/report\.html"):
        edgekit.render_report(run, tmp_path)


def test_runs_are_compared_and_written_where_asked(here: Path, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    found = edgekit.compare(runs)
    assert [run.name for run in found.runs] == ["a", "b"]
    assert list(here.iterdir()) == []
    assert edgekit.compare(runs, "both.html") == found
    assert "2 runs side by side" in (here / "both.html").read_text()


def test_a_comparison_needs_two_runs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    with pytest.raises(UsageError, match="1 runs were given to compare\nneeded: at least 2"):
        edgekit.compare([run])
    with pytest.raises(UsageError, match="was given twice\nName each run once"):
        edgekit.compare([run, f"{run}/report.json"])


def test_a_comparison_inside_an_artifact_is_refused(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(UsageError, match="lies inside the artifact 'b'"):
        edgekit.compare(runs, runs[1] / "comparison.html")


def test_the_artifact_is_where_the_report_lies(tmp_path: Path) -> None:
    assert isinstance(find_report(make_run(tmp_path / "a")).artifact, Artifact)
