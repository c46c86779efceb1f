"""The checks of ``doctor``: the installation first, then what it can run on and for."""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.diagnosis import conditions
from edgekit.diagnosis.packages import Requirement, installed, misfit, requirements, wanted_python
from edgekit.diagnosis.records import Check, DoctorRecord
from edgekit.diagnosis.surroundings import Answers, Surroundings
from edgekit.environment import version_of
from edgekit.progress import Progress, Silent
from edgekit.target import HOST, load_target, target_names

INSTALLATION, PROCESSOR, RUNTIMES = "Installation", "Processor and targets", "Runtimes"
DEVELOPMENT = "dev"
# Packages that run .tflite files, by age.
TFLITE_PACKAGES = ("ai-edge-litert", "tflite-runtime", "tensorflow")
# What is worth naming of an instruction set, beside what a target asks for.
FEATURES = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16"),
    *("neon", "dotprod", "i8mm", "fphp", "sve", "sve2", "bf16"),
)


def examine(around: Surroundings | None = None, progress: Progress | None = None) -> DoctorRecord:
    """Check this machine and this installation.

    Args:
        around: where to look.
        progress: told what is being done.
    """
    place, told = around or Surroundings(), progress or Silent()
    needed = requirements()
    here = [one for one in needed if not one.extra and installed(one) is not None]
    told.start(f"import {len(here)} packages", None)
    answers = place.imports([one.module for one in here])
    told.finish()
    checks = [
        *check_installation(place, needed, answers),
        *check_processor(place),
        *check_runtimes(answers),
        *conditions.check_room(place),
        *conditions.check_quiet(place),
        *conditions.check_network(place),
    ]
    return DoctorRecord(
        edgekit=version_of("edgekit") or "unknown",
        passed=all(check.state != "failed" for check in checks),
        checks=tuple(checks),
    )


def check_installation(around: Surroundings, needed: list[Requirement], answers: Answers) -> Iterator[Check]:
    """Python and the packages, against the ranges that are tested; that each can be imported."""
    python, wanted = around.host.python, wanted_python()
    if not needed:
        found, fix = "edgekit is not installed, so that nobody knows what it needs", "pip install ."
        yield Check(group=INSTALLATION, name="edgekit", state="warning", found=found, fix=fix)
    elif misfit(python, wanted):
        fix = f"Make an environment with Python {wanted}."
        yield Check(group=INSTALLATION, name="Python", state="failed", found=f"{python}; needs {wanted}", fix=fix)
    else:
        yield Check(group=INSTALLATION, name="Python", state="ok", found=python)
    for one in needed:
        if not one.extra:
            yield _check_package(one, answers.get(one.module, {}).get("error"))
    extras: dict[str, list[Requirement]] = {}
    for one in needed:
        if one.extra and one.extra != DEVELOPMENT:
            extras.setdefault(one.extra, []).append(one)
    for extra, members in extras.items():
        yield _check_extra(extra, members)


def _check_package(one: Requirement, error: str | None) -> Check:
    version = installed(one)
    if version is None:
        return _package(one, "failed", f"not installed; needs {one.wanted}", f"pip install {one.spelled}")
    if error is not None:
        fix = f"pip install --force-reinstall {one.spelled}"
        return _package(one, "failed", f"{version} cannot be imported: {error}", fix)
    wrong = misfit(version, one.wanted)
    if wrong is None:
        return _package(one, "ok", f"{version} ({one.wanted})")
    state = "warning" if wrong == "newer" else "failed"
    return _package(one, state, f"{version} is {wrong} than {one.wanted}", f"pip install {one.spelled}")


def _package(one: Requirement, state: str, found: str, fix: str = "") -> Check:
    return Check.model_validate(
        {"group": INSTALLATION, "name": one.name, "state": state, "found": found, "fix": fix, "package": True}
    )


def _check_extra(extra: str, members: list[Requirement]) -> Check:
    """An extra that is there, not there, or there in part.

    Without its first package, what it is for, it is not there: the others may have come along with something else.
    """
    missing = [one.name for one in members if installed(one) is None]
    name, fix = f"extra {extra}", f'pip install "edgekit[{extra}]"'
    if not missing:
        return Check(group=INSTALLATION, name=name, state="ok", found=", ".join(one.name for one in members))
    if members[0].name in missing:
        return Check(group=INSTALLATION, name=name, state="absent", found="not installed; optional", fix=fix)
    return Check(group=INSTALLATION, name=name, state="warning", found=f"lacks {', '.join(missing)}", fix=fix)


def check_processor(around: Surroundings) -> Iterator[Check]:
    """The processor, and which shipped targets this machine can measure."""
    here = around.host
    cores = f"{here.cores} core{'s' if here.cores != 1 else ''} for this process"
    yield Check(group=PROCESSOR, name="processor", state="ok", found=f"{here.processor} ({here.architecture}), {cores}")
    told = ", ".join(known_features(around)) or "nothing that a target asks for"
    yield Check(group=PROCESSOR, name="instruction set", state="ok" if here.features else "note", found=told)
    reasons = {name: load_target(name).missing_on(here) for name in target_names() if name != HOST}
    for name, reason in reasons.items():
        state = "absent" if reason else "ok"
        found = f"no latency here: {reason}" if reason else "this machine can measure it"
        yield Check.model_validate({"group": PROCESSOR, "name": f"target {name}", "state": state, "found": found})
    if all(reasons.values()):
        yield Check(
            group=PROCESSOR,
            name="target host",
            state="warning",
            found="no shipped target describes this machine, so that nothing can be measured for it",
            fix="Write a target file: edgekit targets show x86-64 > mine.toml, then --target ./mine.toml.",
        )


def known_features(around: Surroundings) -> list[str]:
    """The extensions of this processor that are worth naming, in a fixed order."""
    asked = {
        feature
        for name in target_names()
        if name != HOST
        for entry in load_target(name).features
        for feature in entry.split("|")
    }
    names = list(dict.fromkeys([*FEATURES, *sorted(asked)]))
    return [name for name in names if name in around.host.features]


def check_runtimes(answers: Answers) -> Iterator[Check]:
    """What can run a model here."""
    version, said = version_of("onnxruntime"), answers.get("onnxruntime", {})
    if version is not None and said.get("error") is None and "providers" in said:
        providers = [name.removesuffix("ExecutionProvider") for name in said["providers"]]
        yield Check(group=RUNTIMES, name="onnxruntime", state="ok", found=f"{version}, runs on {', '.join(providers)}")
    elif version is not None:
        yield Check(
            group=RUNTIMES,
            name="onnxruntime",
            state="failed",
            found=f"{version} cannot be imported",
            fix="pip install --force-reinstall onnxruntime",
        )
    version, said = version_of("torch"), answers.get("torch", {})
    if version is not None and said.get("error") is None and "devices" in said:
        cuda = f"CUDA {said['cuda']}" if said["cuda"] else "without CUDA"
        where = f"{cuda}: {', '.join(said['devices']) or 'no device'}" if said["cuda"] else cuda
        yield Check(
            group=RUNTIMES, name="torch", state="ok", found=f"{version}, {where}, kernels for {said['vectors']}"
        )
    tflite = next(((name, found) for name in TFLITE_PACKAGES if (found := version_of(name))), None)
    if tflite is None:
        yield Check(group=RUNTIMES, name="TFLite", state="absent", found="not installed; needed for .tflite files only")
    else:
        yield Check(group=RUNTIMES, name="TFLite", state="ok", found=f"{tflite[0]} {tflite[1]}")
