from __future__ import annotations

import pytest
from pruning.encoders.test_table import GEOMETRY, SCOPE, table

from edgekit.errors import UsageError
from edgekit.pruning.encoders.design import Design, narrowest
from edgekit.pruning.encoders.table import CostTable

EVERY_TOKEN = GEOMETRY.model_copy(update={"first_token_only": False})


def test_few_encoders_are_measured_and_every_width_is_a_multiple() -> None:
    design = Design.of(GEOMETRY, 6, 16)
    assert (design.heads, design.neurons) == ((3, 6, 12), (192, 512, 1024, 1536))
    assert design.encoders[0] == ((6, 512), (6, 512), (6, 512))
    assert len(design.encoders) == 2 + 2 + 3 + 2 + 1
    assert len(design.checks) == 3
    assert set(design.checks).isdisjoint(design.encoders)
    assert all(neurons % 16 == 0 for shape in (*design.encoders, *design.checks) for _, neurons in shape)
    assert max(len(shape) for shape in design.checks) == 6


def test_a_last_layer_like_the_others_is_not_measured_apart() -> None:
    assert len(Design.of(EVERY_TOKEN, 6, 16).encoders) == 2 + 2 + 3


def test_no_encoder_has_more_than_the_model() -> None:
    small = GEOMETRY.model_copy(update={"heads": 1, "neurons": 24})
    design = Design.of(small, 2, 16)
    assert {len(shape) for shape in (*design.encoders, *design.checks)} == {1, 2}
    assert all(heads == 1 and neurons in (16, 24) for shape in design.encoders for heads, neurons in shape)


def test_a_model_of_one_layer_has_no_table() -> None:
    with pytest.raises(UsageError, match="a model of one layer has no cost table"):
        Design.of(GEOMETRY, 1, 16)


@pytest.mark.parametrize("geometry", [GEOMETRY, EVERY_TOKEN])
@pytest.mark.parametrize("layers", [2, 3, 6])
def test_costs_that_add_up_are_predicted_exactly(geometry, layers: int) -> None:
    design = Design.of(geometry, layers, 16)
    truth = table()
    if design.same_last:
        truth = table(last_attention=truth.attention, last_feed_forward=truth.feed_forward)
    curves = design.solve({shape: truth.predict(shape) for shape in design.encoders})
    found = CostTable(scope=SCOPE, unit="ms", **vars(curves))
    for shape in (*design.checks, *design.encoders, ((12, 1536),) * 6):
        assert found.predict(shape) == pytest.approx(truth.predict(shape))
    assert found.neurons_cost(0, last=False) == pytest.approx(0)
    if not design.same_last:
        assert found.heads_cost(0, last=True) == found.neurons_cost(0, last=True) == pytest.approx(0)


@pytest.mark.parametrize(
    ("hidden", "left", "multiple", "least"),
    [
        (384, 384, 16, None),
        (384, 256, 16, 192),
        (384, 192, 16, 192),
        (384, 96, 16, 96),
        (32, 16, 16, 16),
        (96, 64, 64, 64),
    ],
)
def test_a_table_goes_down_to_half_the_hidden_size_or_to_what_stays(hidden, left, multiple, least) -> None:
    assert narrowest(hidden, left, multiple) == least


@pytest.mark.parametrize(
    ("least", "sizes"), [(None, (384,)), (192, (384, 288, 192)), (96, (384, 288, 192, 96)), (288, (384, 288))]
)
def test_smaller_hidden_sizes_are_measured_where_the_stream_is_pruned_alone(least, sizes) -> None:
    usual = Design.of(GEOMETRY, 6, 16)
    design = Design.of(GEOMETRY.model_copy(update={"narrowest": least}), 6, 16)
    assert design.hidden == sizes
    assert (design.encoders, design.checks) == (usual.encoders, usual.checks)
    assert len(design.fitted) == len(sizes) * len(usual.encoders)
    assert set(design.narrower_checks).isdisjoint(design.fitted)
    assert all(size % 16 == 0 and sizes[-1] <= size < 384 for size, _ in design.narrower_checks)
    assert design.measured[0] == (384, design.encoders[0])
    assert len(set(design.measured)) == len(design.measured)
    if least is None:
        assert design.measured == tuple((384, shape) for shape in (*usual.encoders, *usual.checks))
    if least == 192:
        assert [size for size, _ in design.narrower_checks] == [240, 336]
        assert len(design.measured) == 3 * 10 + 3 + 2


def test_noise_makes_no_wider_part_the_cheaper_one() -> None:
    design = Design.of(GEOMETRY, 3, 16)
    costs = {shape: table().predict(shape) for shape in design.encoders}
    costs[design.with_ordinary(6, 1024)] = 0.1
    curve = design.solve(costs).feed_forward
    assert [width for width, _ in curve] == [192, 512, 1024, 1536]
    assert curve[2][1] == curve[1][1] <= curve[3][1]
