from __future__ import annotations

import pytest

from edgekit.cli.options import read_count, read_pairs, read_seconds, read_share, read_workload
from edgekit.errors import UsageError


@pytest.mark.parametrize(
    ("text", "share"),
    [("1%", 0.01), ("1 %", 0.01), ("1pp", 0.01), ("0.5PP", 0.005), ("0.01", 0.01), ("0", 0.0), ("2.5%", 0.025)],
)
def test_share_is_read_from_points_or_a_fraction(text, share):
    assert read_share(text, "--max-drop") == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "a lot", "nan", "inf", "-1%", "-0.01", "1", "100%", "250%", "1%%", "1 pct"])
def test_share_is_refused_when_it_is_none(text):
    with pytest.raises(UsageError) as caught:
        read_share(text, "--max-drop")
    assert caught.value.what == f"--max-drop {text!r} is no share of the metric's scale"
    assert "1% or 0.5pp" in caught.value.why


def test_share_above_one_suggests_points():
    with pytest.raises(UsageError) as caught:
        read_share("1.5", "--max-drop")
    assert caught.value.hint == "If points are meant, write --max-drop 1.5%."


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5H", 5400), (" 1 m", 60)])
def test_time_is_read_with_its_unit(text, seconds):
    assert read_seconds(text, "--time") == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-1m", "0s", "nanm", "infh", "1d"])
def test_time_is_refused_when_it_is_none(text):
    with pytest.raises(UsageError) as caught:
        read_seconds(text, "--time")
    assert caught.value.what == f"--time {text!r} is no time"
    assert "30m" in caught.value.why


@pytest.mark.parametrize(
    ("text", "count"), [("1200", 1200), ("500M", 500_000_000), ("0.5g", 500_000_000), ("1e6", 10**6)]
)
def test_count_is_read_with_or_without_a_scale(text, count):
    assert read_count(text, "--max-instructions") == count


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "inf", "nan", "5K", "5MG", "2GG"])
def test_count_is_refused_when_it_is_none(text):
    with pytest.raises(UsageError) as caught:
        read_count(text, "--max-instructions")
    assert caught.value.what == f"--max-instructions {text!r} is no number"


def test_pairs_are_collected_over_repeats_and_commas():
    given = ["text=sentence,label=y", "sentence2 = b"]
    pairs = read_pairs(given, "--columns", "text=sentence", several=True)
    assert pairs == {"text": "sentence", "label": "y", "sentence2": "b"}


def test_pairs_keep_commas_and_equals_signs_of_a_single_value():
    assert read_pairs(["prune.widths=a=1,b"], "--set", "prune.ratio=0.5") == {"prune.widths": "a=1,b"}
    assert read_pairs(None, "--set", "prune.ratio=0.5") == {}


@pytest.mark.parametrize("text", ["prune.ratio", "=0.5", "prune.ratio=", ""])
def test_pair_without_name_or_value_is_refused(text):
    with pytest.raises(UsageError) as caught:
        read_pairs([text], "--set", "prune.ratio=0.5")
    assert caught.value.what == f"--set {text!r} is no name=value"
    assert caught.value.hint == "Write it as in --set prune.ratio=0.5."


def test_pair_given_twice_with_two_values_is_refused():
    with pytest.raises(UsageError, match=r"--set gives 'a\.b' twice"):
        read_pairs(["a.b=1", "a.b=2"], "--set", "prune.ratio=0.5")
    assert read_pairs(["a.b=1", "a.b=1"], "--set", "prune.ratio=0.5") == {"a.b": "1"}


def test_workload_is_128_tokens_where_part_of_it_is_told():
    assert read_workload(None, None, None) is None
    assert read_workload(4, None, None).model_dump() == {"batch": 4, "tokens": 128, "image": None}
    assert read_workload(None, 64, None).model_dump() == {"batch": 1, "tokens": 64, "image": None}
    assert read_workload(None, None, 224).image == 224


def test_workload_of_tokens_and_images_is_refused():
    with pytest.raises(UsageError, match="--tokens and --image were both given"):
        read_workload(1, 128, 224)
