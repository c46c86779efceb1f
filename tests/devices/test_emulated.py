from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_programs import Programs
from onnx import TensorProto, helper, numpy_helper

from edgekit.cache import Cache
from edgekit.devices.emulated import EmulatedDevice, merge
from edgekit.devices.emulation import root as roots
from edgekit.devices.emulation.plugin import Region
from edgekit.devices.emulation.profiles import PROFILES
from edgekit.devices.emulation.root import build_root, verify_root, why_not
from edgekit.devices.local import LocalDevice
from edgekit.errors import HostError, ModelError, UnknownNameError
from edgekit.progress import Silent
from edgekit.runtimes.measuring import Place, Subject, count_instructions, run_calls

ARM64 = [name for name, profile in PROFILES.items() if profile.kind == "arm64"]


@pytest.mark.parametrize("name", PROFILES)
def test_a_device_has_its_profiles_label_and_no_clock(name: str) -> None:
    device = EmulatedDevice(name)
    assert (device.label, device.timed) == (f"{name}, emulated", False)


def test_fingerprints_differ_by_profile_and_stay() -> None:
    assert len({EmulatedDevice(name).fingerprint for name in PROFILES}) == len(PROFILES)
    assert EmulatedDevice("cortex-a76").fingerprint == EmulatedDevice("cortex-a76").fingerprint


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no profile of an emulated processor 'z80'"):
        EmulatedDevice("z80")


def test_what_is_not_set_up_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="the emulator for cortex-a76 is not set up") as raised:
        EmulatedDevice("cortex-a76", Cache(tmp_path)).execute(tmp_path, 1)
    assert raised.value.id == "environment.not-set-up"
    assert raised.value.hint == "Run `edgekit targets setup arm64`."


def test_regions_go_to_their_subjects() -> None:
    counted = [Region(5, {"sdot": 1}), Region(7, {"sdot": 2}), Region(90)]
    answer = merge({"regions": ["a", "a", "b"], "load_ms": 1.0}, counted, "toy")
    assert answer["instructions"] == {"a": [5, 7], "b": [90]}
    assert answer["kernels"] == {"a": {"sdot": 1}, "b": {}}
    assert answer["load_ms"] == 1.0


def test_a_region_that_was_not_seen_is_told() -> None:
    with pytest.raises(HostError, match="the instructions on toy could not be counted\n2 regions were run, and 1 were"):
        merge({"regions": ["a", "a"]}, [Region(1)], "toy")


@pytest.mark.parametrize(("what", "counted"), [("instructions", True), ("outputs", False), ("memory", False)])
def test_only_what_counts_runs_with_the_plugin(
    what: str, counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs()
    monkeypatch.setattr("subprocess.run", programs)
    monkeypatch.setattr(roots, "why_not", lambda kind: None)
    device = EmulatedDevice("haswell", Cache(tmp_path / "cache"), python="/here/python")
    device.prepare(Silent())
    (tmp_path / "spec.json").write_text(json.dumps({"what": what}))
    assert device.execute(tmp_path, 5) == ""  # the fake guest says nothing, which whoever asked will tell
    words = programs.asked[-1]
    assert ("-plugin" in words) == counted
    place = tmp_path.resolve()
    assert words[-4:] == ["/here/python", "-P", f"{place}/runner.py", f"{place}/spec.json"]


# What follows makes roots and runs in them: seconds to a minute each, and the network.


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("emulators"))


def ready(profile: str, cache: Cache) -> EmulatedDevice:
    """A device whose root is there; skips where this machine cannot have it."""
    reason = why_not(PROFILES[profile].kind)
    if reason is not None:
        pytest.skip(reason)
    device = EmulatedDevice(profile, cache)
    device.prepare(Silent())
    return device


@pytest.fixture(scope="session")
def feeds() -> dict[str, Any]:
    return {"x": np.random.default_rng(0).normal(0, 1, (64, 256)).astype(np.float32)}


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two matrix products in FP32, and with dynamic INT8 of signed and unsigned weights."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    folder, random = tmp_path_factory.mktemp("graphs"), np.random.default_rng(1)
    shapes = {"w": (256, 512), "v": (512, 256)}
    weights = [
        numpy_helper.from_array(random.normal(0, 0.05, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "v"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 256]) for name in "xy"]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "fp32.onnx")
    for name, kind in (("s8", QuantType.QInt8), ("u8", QuantType.QUInt8)):
        quantize_dynamic(folder / "fp32.onnx", folder / f"{name}.onnx", weight_type=kind)
    return {name: folder / f"{name}.onnx" for name in ("fp32", "s8", "u8")}


def counted(device: EmulatedDevice, graphs: dict[str, Path], feeds: dict[str, Any]) -> tuple[dict[str, int], Any]:
    """Instructions of an inference in the middle of three, and the kernels seen, by graph."""
    subjects = {name: Subject(path, feeds) for name, path in graphs.items()}
    answer = count_instructions(subjects, Place(device), 3)
    assert {len(counts) for counts in answer.instructions.values()} == {3}
    return {name: sorted(counts)[1] for name, counts in answer.instructions.items()}, answer.kernels


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ARM64, "haswell"])
def test_kernels_are_those_of_the_processor(
    name: str, cache: Cache, graphs: dict[str, Path], feeds: dict[str, Any]
) -> None:
    counts, kernels = counted(ready(name, cache), graphs, feeds)
    seen = {kernel for found in kernels.values() for kernel in found}
    assert seen <= set(PROFILES[name].kernels)
    products = 64 * 256 * 512 * 2
    fused = kernels["fp32"].get("fmla", 0) * 4 or kernels["fp32"]["vfmadd"] * 8
    assert fused == pytest.approx(products, rel=0.01)  # 4 or 8 products an instruction
    if name in ("cortex-a53", "cortex-a72"):
        assert counts["s8"] < counts["fp32"] < counts["u8"]  # without dot products, unsigned weights are dearer
    elif name == "cortex-a76":
        assert counts["s8"] < 0.5 * counts["fp32"]
        assert kernels["s8"]["udot"] * 16 == pytest.approx(products, rel=0.01)
    elif name == "i8mm":
        assert counts["s8"] < 0.3 * counts["fp32"]
        assert kernels["s8"]["ummla"] * 32 == pytest.approx(products, rel=0.01)
    else:
        assert kernels["s8"]["vpmaddubsw"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a76", "haswell"])
def test_counts_repeat_within_half_a_percent(
    name: str, cache: Cache, graphs: dict[str, Path], feeds: dict[str, Any]
) -> None:
    device = ready(name, cache)
    runs = [counted(device, graphs, feeds)[0] for _ in range(5)]
    for graph in graphs:
        counts = [run[graph] for run in runs]
        assert max(counts) <= 1.005 * min(counts), (graph, counts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARM64)
def test_arm_answers_as_this_machine_does(
    name: str, cache: Cache, graphs: dict[str, Path], feeds: dict[str, Any]
) -> None:
    device = ready(name, cache)
    subject = Subject(graphs["fp32"], feeds)
    here = run_calls(subject, [feeds], Place(LocalDevice())).outputs["subject"][0]["y"].array()
    answer = run_calls(subject, [feeds], Place(device))
    there = answer.outputs["subject"][0]["y"].array()
    assert (here.shape, here.dtype) == (there.shape, there.dtype)
    assert np.abs(here - there).max() < 1e-5 * np.abs(here).max()
    assert answer.host["machine"] == "aarch64"


@pytest.mark.slow
def test_sums_saturate_on_haswell_only(cache: Cache, tmp_path: Path) -> None:
    # 255 * 127 + 255 * 127 is beyond 16 bits: vpmaddubsw gives 32767, where the sum is 64770
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    weights = numpy_helper.from_array(np.full((64, 16), 127, np.int8), "w")
    ends = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, [4, 64]),
        helper.make_tensor_value_info("y", TensorProto.INT32, [4, 16]),
    ]
    graph = helper.make_graph(nodes, "worst", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    feeds = {"x": np.full((4, 64), 255, np.uint8)}
    found = {}
    for name in ("haswell", "cortex-a53", "cortex-a76"):
        answer = run_calls(Subject(tmp_path / "m.onnx", feeds), [feeds], Place(ready(name, cache)))
        found[name] = answer.outputs["subject"][0]["y"].array()
    assert np.unique(found["cortex-a53"]).tolist() == [255 * 127 * 64]
    assert np.array_equal(found["cortex-a53"], found["cortex-a76"])
    assert np.unique(found["haswell"]).tolist() == [32767 * 32]


@pytest.mark.slow
def test_a_model_that_the_runtime_there_refuses_is_the_models_error(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="onnxruntime on cortex-a53, emulated does not run the model"):
        run_calls(Subject(tmp_path / "m.onnx", {}), [{}], Place(ready("cortex-a53", cache)))


RUNNER = """\
import ctypes, json, os, sys, time
what = json.load(open(sys.argv[1]))["do"]
if what == "crash":
    ctypes.string_at(0)
if what == "hang":
    time.sleep(600)
print(open("/proc/cpuinfo").read())
"""


def laid_out(folder: Path, do: str) -> Path:
    (folder / "runner.py").write_text(RUNNER)
    (folder / "spec.json").write_text(json.dumps({"what": "outputs", "do": do}))
    return folder


@pytest.mark.slow
def test_a_guest_that_crashes_or_hangs_is_told_and_leaves_no_memory_image(cache: Cache, tmp_path: Path) -> None:
    device = ready("cortex-a53", cache)
    with pytest.raises(HostError, match="the process on cortex-a53, emulated died with SIGSEGV"):
        device.execute(laid_out(tmp_path, "crash"), 60)
    with pytest.raises(HostError, match="hung and was stopped\nno answer in 3 s"):
        device.execute(laid_out(tmp_path, "hang"), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runner.py", "spec.json"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROFILES)
def test_the_guest_reads_its_own_processors(name: str, cache: Cache, tmp_path: Path) -> None:
    device = ready(name, cache)
    assert device.execute(laid_out(tmp_path, "print"), 60).strip() == PROFILES[name].cpuinfo.strip()


@pytest.mark.slow
def test_nothing_that_ran_has_changed_a_root(cache: Cache, tmp_path: Path) -> None:
    for name in ("cortex-a53", "cortex-a7", "haswell"):
        device = ready(name, cache)
        device.execute(laid_out(tmp_path, "print"), 60)
        assert verify_root(build_root(PROFILES[name].kind, cache)) is None


@pytest.mark.slow
def test_tflite_runtime_runs_on_32_bits(cache: Cache, tmp_path: Path) -> None:
    device = ready("cortex-a7", cache)
    (tmp_path / "runner.py").write_text(
        "import numpy, platform, tflite_runtime\n"
        "from tflite_runtime.interpreter import Interpreter\n"
        "print(platform.machine(), numpy.__version__.split('.')[0], tflite_runtime.__version__)\n"
    )
    (tmp_path / "spec.json").write_text('{"what": "outputs"}')
    assert device.execute(tmp_path, 120).split() == ["armv7l", "1", "2.14.0"]


@pytest.mark.slow
def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why_not("x86-64") is not None:
        pytest.skip("nothing can be emulated here")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(HostError, match="reading Debian's lists of packages failed\nE: ") as raised:
        build_root("x86-64", Cache(tmp_path))
    assert raised.value.id == "environment.setup-failed"
    assert shutil.disk_usage(tmp_path).free > 0
    assert list((tmp_path / "tmp").iterdir()) == []
