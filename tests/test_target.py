from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from edgekit.devices import KINDS_OF
from edgekit.devices.emulation.profiles import PROFILES
from edgekit.environment import FEATURE_NAMES, CudaDevice, Host, host
from edgekit.errors import UnknownNameError, UsageError
from edgekit.target import (
    EXECUTION_PROVIDERS,
    HOST,
    IntegerScheme,
    Target,
    load_target,
    parse_target,
    target_names,
)

FOLDER = Path(__file__).parents[1] / "targets"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.toml"))
PIS = ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5")
MINE = """
schema = "edgekit.target/1"
name = "mine"
description = "a board"
architecture = "aarch64"
features = ["neon", "dotprod|i8mm"]
[runtime]
version = "1.23"
"""


def machine(architecture: str, *features: str, **more: str) -> Host:
    facts = {"architecture": architecture, "features": features, "system": "Linux", "board": ""} | more
    return host().model_copy(update=facts)


def read_features(cpuinfo: str) -> set[str]:
    """The extensions in the text of ``/proc/cpuinfo``, by the names that targets use."""
    line = next(line for line in cpuinfo.splitlines() if line.startswith(("Features", "flags")))
    return {FEATURE_NAMES.get(flag, flag) for flag in line.partition(":")[2].split()}


def test_every_file_is_a_target_and_every_target_of_the_issue_is_there() -> None:
    assert target_names() == sorted([HOST, *SHIPPED])
    assert {"x86-64", "x86-64-vnni", "x86-64-amx", "arm64", "arm64-dotprod", "arm64-i8mm"} <= set(SHIPPED)
    assert {*PIS, "android-arm64", "ios-arm64", "armv7"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_target_is_called_as_its_file(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert len(target.description) > 20
    assert target.features or target.runtime.provider != "cpu"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_target_has_a_source_for_its_numbers(name: str) -> None:
    values = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    sources = values["sources"]
    assert all(len(text) > 20 for text in sources.values())
    assert {"width_multiple", "runtime", *({"features", "opset", "profiles"} & set(values))} <= set(sources)
    assert {"int8", "reduce_range", "precisions"} & set(sources)
    known = set(Target.model_fields) | set(values.get("int8", {}))
    assert set(sources) <= known


@pytest.mark.parametrize(
    ("name", "reduce_range", "multiple"),
    [
        ("x86-64", True, 16),
        ("x86-64-vnni", False, 16),
        ("x86-64-amx", False, 16),
        *((name, False, 8) for name in ("arm64", "arm64-dotprod", "arm64-i8mm", "android-arm64", "ios-arm64", *PIS)),
    ],
)
def test_the_facts_of_the_shipped_targets(name: str, reduce_range: bool, multiple: int) -> None:
    target = load_target(name)
    assert (target.int8.reduce_range, target.width_multiple) == (reduce_range, multiple)
    assert (target.int8.activations, target.int8.weights, target.int8.per_channel) == ("u8", "s8", True)


@pytest.mark.parametrize("name", SHIPPED)
def test_kernels_saturate_on_x86_processors_without_vnni_only(name: str) -> None:
    target = load_target(name)
    plain = target.architecture == "x86_64" and not any("vnni" in feature for feature in target.features)
    plain = plain and target.runtime.provider == "cpu"
    assert target.int8.saturates == plain
    assert not plain or (target.int8.reduce_range and target.profiles)


def test_a_machine_saturates_without_vnni_on_x86() -> None:
    assert machine("x86_64", "avx2", "fma").saturates
    assert not machine("x86_64", "avx2", "avx_vnni").saturates
    assert not machine("x86_64", "avx2", "avx512_vnni").saturates
    assert not machine("aarch64", "neon").saturates


@pytest.mark.parametrize("field", sorted(IntegerScheme.model_fields))
def test_the_readme_explains_every_field_of_int8(field: str) -> None:
    assert f"| `{field}` |" in (FOLDER / "README.md").read_text()


def test_32_bit_arm_takes_tflite_in_tflite_runtime_only() -> None:
    target = load_target("armv7")
    assert (target.architecture, target.formats, target.runtime.name) == ("armv7l", ("tflite",), "tflite-runtime")
    assert (target.int8.activations, target.int8.weights, target.profiles) == ("s8", "s8", ("cortex-a7",))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_target_is_emulated_on_processors_of_its_own_architecture_and_features(name: str) -> None:
    target = load_target(name)
    assert target.profiles or target.reach != "emulated"
    assert target.reach == "emulated" or target.int8.saturates or not target.profiles
    for profile in (PROFILES[profile] for profile in target.profiles):
        assert KINDS_OF[target.architecture] == profile.kind
        here = machine(target.architecture, *read_features(profile.cpuinfo))
        assert all(here.has(feature) for feature in target.features)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_stands_in_for_another_system_says_so(name: str) -> None:
    target = load_target(name)
    assert (target.system in ("Android", "iOS")) == bool(target.stand_in)
    assert "latency" in target.stand_in.lower() or not target.stand_in


@pytest.mark.parametrize("field", sorted(Target.model_fields))
def test_the_readme_explains_every_field(field: str) -> None:
    text = (FOLDER / "README.md").read_text()
    name = Target.model_fields[field].alias or field
    assert f"`{name}`" in text or f"`[{name}]`" in text


@pytest.mark.parametrize("field", ["precisions", "formats", "features", "boards", "profiles"])
def test_the_readme_gives_the_default_of_every_list(field: str) -> None:
    row = next(line for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith(f"| `{field}`"))
    default = re.search(r"`\[([^]]*)\]`", row)
    assert default is not None
    stated = tuple(part.strip(' "') for part in default[1].split(",") if part.strip())
    assert stated == Target.model_fields[field].default


def test_the_host_is_the_shipped_target_with_the_most_features_that_fit() -> None:
    target = load_target(HOST)
    assert target.name == HOST
    assert target.missing_on(host()) is None
    fitting = [load_target(name) for name in SHIPPED if load_target(name).missing_on(host()) is None]
    assert len(target.features) == max(len(other.features) for other in fitting)
    assert target.description.startswith("this machine, as ")


@pytest.mark.parametrize(
    ("here", "best"),
    [
        (machine("x86_64", "avx2", "fma"), "x86-64"),
        (machine("x86_64", "avx2", "fma", "avx512_vnni"), "x86-64-vnni"),
        (machine("x86_64", "avx2", "fma", "avx_vnni"), "x86-64-vnni"),
        (machine("aarch64", "neon"), "arm64"),
        (machine("aarch64", "neon", "dotprod"), "arm64-dotprod"),
        (machine("aarch64", "neon", "dotprod", "i8mm"), "arm64-i8mm"),
        (machine("x86_64", "avx2", "fma", "avx512_vnni", "amx_tile", "amx_int8"), "x86-64-amx"),
        (machine("aarch64", "neon", board="Raspberry Pi 3 Model B Plus Rev 1.3"), "raspberry-pi-3"),
        (machine("aarch64", "neon", board="Raspberry Pi 4 Model B Rev 1.4"), "raspberry-pi-4"),
        (machine("aarch64", "neon", board="Raspberry Pi 400 Rev 1.0"), "raspberry-pi-4"),
        (machine("aarch64", "neon", board="Raspberry Pi Compute Module 4 Rev 1.1"), "raspberry-pi-4"),
        (machine("aarch64", "neon", "dotprod", board="Raspberry Pi 5 Model B Rev 1.0"), "raspberry-pi-5"),
        (machine("aarch64", "neon", board="Pine64 RockPro64 v2.1"), "arm64"),
        (machine("aarch64", "neon", "dotprod", system="Android"), "android-arm64"),
        (machine("armv7l", "neon", "vfpv4", board="Raspberry Pi 4 Model B Rev 1.4"), "armv7"),
    ],
)
def test_the_host_of_other_machines(here: Host, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.target.host", lambda: here)
    assert load_target(HOST).description.startswith(f"this machine, as {best}:")


def test_a_machine_that_no_target_describes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.target.host", lambda: machine("riscv64"))
    with pytest.raises(UsageError, match=r"no shipped target describes this machine \(riscv64"):
        load_target(HOST)


CARD = CudaDevice(name="a card", capability="8.9")


@pytest.mark.parametrize(
    ("cards", "providers", "reason"),
    [
        ((), ("CUDAExecutionProvider",), "no CUDA device"),
        ((CARD,), ("CUDAExecutionProvider", "CPUExecutionProvider"), None),
        (
            (CARD.model_copy(update={"capability": "6.1"}), CARD),
            ("CUDAExecutionProvider",),
            "a card is of compute capability 6.1, and the target needs 7.5",
        ),
        (
            (CARD.model_copy(update={"capability": "12.0"}),),
            ("CPUExecutionProvider",),
            "the onnxruntime that is installed here has no CUDAExecutionProvider; onnxruntime-gpu has it",
        ),
    ],
)
def test_what_a_machine_lacks_of_a_gpu_is_named(
    cards: tuple[CudaDevice, ...], providers: tuple[str, ...], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.target.execution_providers", lambda: providers)
    here = machine("x86_64").model_copy(update={"cuda": cards})
    assert load_target("cuda").missing_on(here) == reason


def test_a_card_does_not_make_this_machine_another_target(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine("x86_64").model_copy(update={"cuda": (CARD,)})
    monkeypatch.setattr("edgekit.target.host", lambda: here)
    with pytest.raises(UsageError, match="no shipped target describes this machine"):
        load_target(HOST)


def test_a_lower_provider_takes_what_the_one_before_it_leaves() -> None:
    assert [chain[-1] for chain in EXECUTION_PROVIDERS.values()] == ["CPUExecutionProvider"] * 3
    assert EXECUTION_PROVIDERS["tensorrt"][1:] == EXECUTION_PROVIDERS["cuda"]


def test_what_a_machine_lacks_is_named() -> None:
    vnni = load_target("x86-64-vnni")
    assert vnni.missing_on(machine("aarch64", "neon")) == "the target is x86_64 and this machine is aarch64"
    assert vnni.missing_on(machine("x86_64", "fma")) == "this machine's processor lacks avx2, avx512_vnni|avx_vnni"
    assert vnni.missing_on(machine("x86_64", "avx2", "fma", "avx_vnni")) is None


def test_another_board_or_system_is_not_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.target.version_of", lambda name: "9.9")
    four = load_target("raspberry-pi-4")
    assert four.missing_on(machine("aarch64", "neon")) == "this machine is no Raspberry Pi 4"
    assert four.missing_on(machine("aarch64", "neon", board="Raspberry Pi 4 Model B Rev 1.4")) is None
    phone = load_target("android-arm64")
    assert phone.missing_on(machine("aarch64", "neon")) == "the target runs Android and this machine runs Linux"
    assert phone.missing_on(machine("aarch64", "neon", system="Android")) is None


def test_the_runtime_that_is_looked_for_is_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.target.version_of", {"tflite-runtime": "2.13.0", "ai-edge-litert": "2.0"}.get)
    board = machine("armv7l", "neon", "vfpv4")
    assert (
        load_target("armv7").missing_on(board) == "tflite-runtime 2.13.0 is installed here, and the target needs 2.14.0"
    )
    assert load_target("armv7").missing_on(board, "litert") is None
    assert load_target("armv7").missing_on(board, "onnxruntime") == "onnxruntime is not installed here"


def test_a_runtime_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.target.version_of", lambda name: None)
    reason = load_target("x86-64").missing_on(machine("x86_64", "avx2", "fma"))
    assert reason == "onnxruntime is not installed here"


def test_a_target_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    target = load_target("./mine.toml")
    assert (target.name, target.features, target.opset) == ("mine", ("neon", "dotprod|i8mm"), 23)
    assert load_target(target) is target
    assert load_target(tmp_path / "mine.toml") == target


def test_a_missing_target_file_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"there is no target file './none.toml'\nGive the path of a TOML file"):
        load_target("./none.toml")


def test_a_mistyped_target_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_target("arm64-dotprd")
    assert caught.value.hint.startswith("Did you mean 'arm64-dotprod'")
    assert caught.value.why == f"allowed: {', '.join(target_names())}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mine"', 'nam = "mine"', "unknown key 'nam'; did you mean 'name'?"),
        ('version = "1.23"', 'versoin = "1.23"', "unknown key 'runtime.versoin'; did you mean 'version'?"),
        ('"aarch64"', '"riscv64"', "architecture: input should be 'x86_64', 'aarch64', 'armv7l' or 'wasm32'"),
        ("/1", "/2", "schema: input should be 'edgekit.target/1'"),
    ],
)
def test_every_wrong_key_is_named(old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_target(MINE.replace(old, new), "mine")
    assert caught.value.what == "target 'mine' is not valid"
    assert message in caught.value.why.splitlines()
