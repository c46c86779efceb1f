"""A gate on figures that are drawn: the statistics are real, the machine is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from fake_devices import Emulator
from records import make_record, p50

from edgekit.gate.figures import BASELINE, CANDIDATE, Comparison, thinned
from edgekit.gate.margins import Margins, parse_margins
from edgekit.gate.metrics import STARTED, TIMED
from edgekit.gate.protocol import Plan
from edgekit.gate.record import Metric, Series
from edgekit.gate.session import Asked, Found, measure_timed
from edgekit.measure.subjects import subjects_at
from edgekit.runtimes.measuring import Answer, ProcessRun, Subject, here, latency_run
from edgekit.tasks.base import Workload

SIX = Plan(processes=6, starts=6)


@dataclass
class Drawn:
    """Processes whose times are drawn.

    Attributes:
        slower: the candidate's times over the baseline's.
        block: inferences of a block.
        energy: whether counters can be read.
        wrapped: rounds of the baseline in which the counter began anew, or stood still.
    """

    slower: float = 1.0
    block: int = 10
    energy: bool = False
    wrapped: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(0)

    def measure(self, runs: Sequence[ProcessRun], seconds: float, fewest: int) -> list[Answer]:
        del seconds, fewest
        return [self.answer(run) for run in runs]

    def answer(self, run: ProcessRun) -> Answer:
        factors = {name: self.slower if name.startswith(CANDIDATE) else 1.0 for name in run.subjects}
        if run.asked["what"] == "memory":
            (factor,) = factors.values()
            return Answer(load_ms=20.0 * factor, peak_memory_bytes=int(1e7 * factor), first_ms=300.0 * factor)
        machine = self.random.uniform(1, 2, 20)
        blocks = {
            name: [(factor * slow * np.exp(self.random.normal(0, 0.005, self.block))).tolist() for slow in machine]
            for name, factor in factors.items()
        }
        energy: dict[str, list[float | None]] = {name: [one * 5.0] * 20 for name, one in factors.items()}
        for at in self.wrapped:
            energy[f"{BASELINE}/model"][at] = None
        return Answer(
            load_ms=1.0,
            peak_memory_bytes=1,
            blocks_ms=blocks,
            energy_uj=energy if self.energy else {},
            overhead_us=0.1,
            runtime_version="1.30",
        )


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    return Subject(tmp_path / "model.onnx", {})


def gated(subject: Subject, drawn: Drawn, gate: str, plan: Plan = SIX) -> tuple[Found, dict[str, Metric]]:
    asked = Asked(plan, Comparison(parse_margins(gate), True, lacking={"energy": "no counter"}), True, batch=2)
    sides: Mapping = {CANDIDATE: {"model": subject}, BASELINE: {"model": subject}}  # type: ignore[type-arg]
    found = measure_timed(sides, here(1), asked, drawn.measure)
    return found, {one.name: one for one in found.metrics}


GATE = "latency.p50=1%,latency.p90=5%,throughput=1%,cold_start=3%,load=3%,memory.peak=3%"


@pytest.mark.parametrize(("slower", "verdict"), [(1.0, "pass"), (1.1, "regression"), (0.9, "improvement")])
def test_every_metric_of_time_finds_what_is_true(subject: Subject, slower: float, verdict: str) -> None:
    found, metrics = gated(subject, Drawn(slower), GATE)
    assert {name: metrics[name].verdict for name in metrics if metrics[name].verdict} == {
        name.partition("=")[0]: verdict for name in GATE.split(",")
    }
    assert metrics["latency.p50"].delta == pytest.approx(slower - 1, abs=0.003)
    assert metrics["throughput"].delta == pytest.approx(1 / slower - 1, abs=0.003)
    assert metrics["cold_start"].delta_ci == pytest.approx((slower - 1, slower - 1))
    assert metrics["memory.peak"].baseline == 1e7
    assert (found.protocol["processes"], found.protocol["rounds"], found.protocol["stopped"]) == (6, 120, "done")
    assert (found.protocol["inferences"], found.protocol["overhead_us"], found.version) == (1200, 0.1, "1.30")


def test_what_is_not_gated_has_a_change_and_no_verdict(subject: Subject) -> None:
    _, metrics = gated(subject, Drawn(1.1), "latency.p50=1%")
    assert (metrics["load"].verdict, metrics["load"].margin) == (None, None)
    assert metrics["load"].delta == pytest.approx(0.1)
    assert metrics["latency.p99"].n == 1200


def test_a_percentile_of_too_few_inferences_is_inconclusive(subject: Subject) -> None:
    _, metrics = gated(subject, Drawn(block=1), "latency.p99=5%,latency.p90=5%")
    assert (metrics["latency.p99"].value, metrics["latency.p99"].verdict) == (None, "inconclusive")
    assert metrics["latency.p99"].reason == "120 inferences are too few for p99, which takes 662"
    assert metrics["latency.p90"].value is not None


def test_what_cannot_be_had_has_a_margin_and_a_reason_and_no_verdict(subject: Subject) -> None:
    _, metrics = gated(subject, Drawn(), "energy=5%,instructions=1%")
    assert (metrics["energy"].verdict, metrics["energy"].margin, metrics["energy"].reason) == (None, 0.05, "no counter")
    assert metrics["instructions"].reason == "instructions cannot be had there"
    _, metrics = gated(subject, Drawn(1.2, energy=True), "energy=5%")
    assert (metrics["energy"].verdict, metrics["energy"].value) == ("regression", 6.0)


def test_rounds_in_which_a_counter_of_energy_tells_nothing_are_left_out_of_both_sides(subject: Subject) -> None:
    found, metrics = gated(subject, Drawn(1.2, energy=True, wrapped=(3, 7)), "energy=5%")
    assert (metrics["energy"].verdict, metrics["energy"].delta) == ("regression", pytest.approx(0.2))
    series = [one for one in found.samples if one.metric == "energy"]
    assert [[len(process) for process in one.processes] for one in series] == [[18] * 6] * 2
    clear, _ = gated(subject, Drawn(1.5, energy=True, wrapped=tuple(range(20))), "energy=5%", Plan(budget_s=20))
    assert "energy" not in {one.metric for one in clear.samples}


def test_instructions_are_counted_beside_the_times_where_there_is_a_counter(subject: Subject, tmp_path: Path) -> None:
    import foreign

    model = foreign.conv_net(tmp_path / "model.onnx")
    feeds = subjects_at(model, Workload())["model"].feeds
    one = Subject(model, feeds)
    counter = replace(here(1), device=Emulator("toy, emulated"))
    asked = Asked(SIX, Comparison(parse_margins("instructions=1%,latency.p50=1%"), True), False, counter=counter)
    found = measure_timed({CANDIDATE: {"model": one}, BASELINE: {"model": one}}, here(1), asked, Drawn().measure)
    metrics = {one.name: one for one in found.metrics}
    counted = metrics["instructions"]
    assert (counted.verdict, counted.value, counted.device) == ("pass", model.stat().st_size, "toy, emulated")
    assert metrics["latency.p50"].verdict == "pass"
    assert [count.device for count in found.counts] == ["toy, emulated"]


def test_a_percentile_is_that_of_all_inferences(subject: Subject) -> None:
    found, metrics = gated(subject, Drawn(block=50), "latency.p99=5%")
    series = next(one for one in found.samples if one.metric == "latency.p99" and one.side == CANDIDATE)
    assert [len(process) for process in series.processes] == [400] * 6
    assert metrics["latency.p99"].value == pytest.approx(np.quantile(series.processes, 0.99))
    assert metrics["latency.p99"].verdict == "pass"
    whole = Drawn(block=50).answer(latency_run(["candidate/model", "baseline/model"], {})).blocks_ms["candidate/model"]
    assert np.quantile(thinned(np.ravel(whole).tolist()), 0.99) == pytest.approx(np.quantile(whole, 0.99), rel=1e-3)


def test_fewer_processes_than_a_verdict_takes_are_inconclusive(subject: Subject) -> None:
    _, metrics = gated(subject, Drawn(1.5), "latency.p50=1%", Plan(processes=3, starts=3))
    assert metrics["latency.p50"].verdict == "inconclusive"
    assert metrics["latency.p50"].reason == "3 processes were measured, and a verdict takes 5"


def test_alone_every_figure_has_its_interval(subject: Subject) -> None:
    asked = Asked(SIX, Comparison(Margins({}), None), started=True)
    found = measure_timed({CANDIDATE: {"model": subject}}, here(1), asked, Drawn().measure)
    assert [one.name for one in found.metrics] == [*TIMED[:4], *STARTED]
    for one in found.metrics:
        assert one.verdict is None
        assert one.ci_low <= one.value <= one.ci_high  # type: ignore[operator]
    assert {series.side for series in found.samples} == {"candidate"}


def test_a_gate_ends_early_when_it_is_clear(subject: Subject) -> None:
    found, metrics = gated(subject, Drawn(1.5), "latency.p50=1%", Plan(budget_s=1e6))
    assert (found.protocol["stopped"], found.protocol["processes"]) == ("clear", 8)
    assert metrics["latency.p50"].verdict == "regression"


@pytest.mark.parametrize("margin", [1, 2, 5, 10])
def test_what_is_worse_by_just_the_margin_is_a_pass(margin: int) -> None:
    comparison = Comparison(parse_margins(f"size={margin}%"), True)
    size = Metric(name="size", unit="bytes", value=(100 + margin) * 10_000.0)
    assert comparison.exact(size, 1e6).verdict == "pass"
    assert comparison.exact(size.model_copy(update={"value": size.value + 1}), 1e6).verdict == "regression"  # type: ignore[operator]


def test_what_a_stored_result_lacks_is_measured_all_the_same(subject: Subject) -> None:
    asked = Asked(SIX, Comparison(parse_margins("latency.p50=3%"), False), True, stored=make_record(p50(1.0)))
    found = measure_timed({CANDIDATE: {"model": subject}}, here(1), asked, Drawn().measure)
    metrics = {one.name: one for one in found.metrics}
    latency = metrics["latency.p50"]
    assert (latency.verdict, latency.reason) == ("invalid", "the baseline does not have it")
    for name in ("latency.p99", "memory.peak"):
        assert metrics[name].value is not None
        assert (metrics[name].delta, metrics[name].verdict) == (None, None)


def test_a_stored_sample_is_compared_with_a_wider_interval() -> None:
    random = np.random.default_rng(1)

    def series(factor: float) -> Series:
        processes = tuple(tuple(factor * np.exp(random.normal(0, 0.01, 20))) for _ in range(8))
        return Series(metric="latency.p50", unit="ms", processes=processes)

    comparison = Comparison(parse_margins("latency.p50=1%"), False)
    found = comparison.metric(series(1.1), series(1.0), 160)
    assert (found.verdict, found.n) == ("regression", 160)
    assert found.delta == pytest.approx(0.1, abs=0.01)
    beside = Comparison(parse_margins("latency.p50=1%"), True).metric(series(1.1), series(1.0), 160)
    assert found.delta_ci is not None
    assert beside.delta_ci is not None
    assert found.delta_ci[0] < beside.delta_ci[0] - 0.005
    assert found.delta_ci[1] > beside.delta_ci[1] + 0.005


def test_two_sessions_of_one_model_are_told_apart_by_no_percent() -> None:
    series = Series(metric="latency.p50", unit="ms", processes=((1.0, 1.0),) * 8)
    for margin, verdict in (("1%", "pass"), ("0.9%", "inconclusive")):
        found = Comparison(parse_margins(f"latency.p50={margin}"), False).metric(series, series, 16)
        assert (found.delta_ci, found.verdict) == ((-0.01, 0.01), verdict)
    disturbed = Comparison(parse_margins("latency.p50=3%"), False).metric(series, series, 16, "load came")
    assert (disturbed.verdict, disturbed.reason) == ("inconclusive", "load came")
    memory = Series(metric="memory.peak", unit="bytes", processes=((1e7,),) * 8)
    found = Comparison(parse_margins("memory.peak=3%"), False).metric(memory, memory, 8)
    assert (found.delta_ci, found.verdict) == ((0.0, 0.0), "pass")
