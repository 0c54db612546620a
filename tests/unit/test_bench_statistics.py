"""The benchmarks' arithmetic: pairs, intervals, verdicts, and the table that is made of them."""

from __future__ import annotations

import json

import pytest

from bench import figures as f
from bench import report


def made(values: list[float], bound: f.Bound | None) -> f.Figure:
    return f.figure("a step", "another", values, unit="ratio", bound=bound)


def test_pairs_are_measured_in_turns_and_the_first_round_is_thrown_away() -> None:
    called: list[tuple[str, int]] = []

    def run(name: str, took: list[float]) -> f.Callable[[int], float]:
        def call(steps: int) -> float:
            called.append((name, steps))
            return took.pop(0)

        return call

    taken = f.interleave({"a": run("a", [9, 1, 2]), "b": run("b", [9, 3, 4])}, pairs=2, steps=7)
    assert called == [("a", 7), ("b", 7)] * 3
    assert taken == {"a": [1, 2], "b": [3, 4]}


def test_a_time_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="a must take a positive time, got 0"):
        f.interleave({"a": lambda steps: 0.0}, pairs=1, steps=1)


def test_ratios_are_taken_pair_by_pair() -> None:
    """Drift of the machine cancels: medians of both sides would say 5/4."""
    ours, others = [1.0, 5.0, 100.0], [1.0, 4.0, 200.0]
    assert made(f.ratios(ours, others), None).median == 1.0
    assert f.differences([3.0, 5.0], [1.0, 1.0], scale=10.0) == [20.0, 40.0]


@pytest.mark.parametrize("combine", [f.ratios, lambda a, b: f.differences(a, b, scale=1.0)])
def test_a_pair_without_its_partner_is_refused(combine: f.Callable) -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        combine([1.0, 2.0], [1.0])


def test_the_interval_holds_the_median_and_shrinks_with_more_pairs() -> None:
    few, many = [1.0, 1.1, 1.2, 1.3] * 3, [1.0, 1.1, 1.2, 1.3] * 100
    widths = []
    for values in (few, many):
        low, high = f.interval(values)
        assert min(values) <= low <= made(values, None).median <= high <= max(values)
        widths.append(high - low)
    assert widths[1] < widths[0]
    assert f.interval(few) == f.interval(few)
    assert f.interval([2.0] * 10) == (2.0, 2.0)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    generator = f.np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        low, high = f.interval(list(generator.exponential(size=41)))
        hits += low <= f.math.log(2) <= high
    assert hits >= 51


def test_one_outlier_does_not_move_the_figure() -> None:
    assert made([1.0] * 20 + [1000.0], f.at_most(1.02)).verdict is f.Verdict.REACHED


@pytest.mark.parametrize(
    ("values", "bound", "verdict"),
    [
        ([0.9, 1.0, 1.0, 1.1] * 10, f.at_most(1.02), f.Verdict.REACHED),
        ([1.03, 1.0, 1.1, 1.04] * 2, f.at_most(1.02), f.Verdict.WITHIN_NOISE),
        ([1.1] * 40, f.at_most(1.02), f.Verdict.MISSED),
        ([0.9] * 40, f.at_most(1.02), f.Verdict.REACHED),
        ([0.9] * 40, f.at_least(0.99), f.Verdict.MISSED),
        ([1.1] * 40, f.at_least(0.99), f.Verdict.REACHED),
        ([2.0] * 40, f.exactly(1), f.Verdict.MISSED),
        ([0.5] * 40, f.exactly(1), f.Verdict.MISSED),
        ([2.0] * 40, None, f.Verdict.REPORTED),
    ],
)
def test_a_figure_is_missed_only_where_the_whole_interval_lies_beyond(
    values: list[float], bound: f.Bound | None, verdict: f.Verdict
) -> None:
    assert made(values, bound).verdict is verdict


def test_the_table_says_everything() -> None:
    figures = [made([1.1] * 40, f.at_most(1.02)), f.exact("traces", "", 1, bound=f.exactly(1))]
    text = report.markdown(figures, {"cores": "2"})
    assert "| a step | another | 1.100 | 1.100 – 1.100 | 40 | ≤ 1.02 | missed |" in text
    assert "| traces | – | 1 | – | – | = 1 | reached |" in text
    assert "cores: 2" in text
    assert "no result" not in text
    assert report.missed(figures) == figures[:1]
    values = json.loads(report.as_json(figures, {"cores": "2"}))
    assert values["machine"] == {"cores": "2"}
    assert [each["verdict"] for each in values["figures"]] == ["missed", "reached"]


def test_too_few_pairs_are_said_to_be_no_result() -> None:
    assert "no result" in report.markdown([made([1.0] * 4, None)], {})
