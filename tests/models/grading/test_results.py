"""Are figures of runs made of the right answers: pairs, errors apart, slices, thresholds?"""

import pytest

from models.errors import InvalidRequest
from models.grading.results import REST, SLICE_VALUES_MOST, Answer, Run, Scored, Threshold, report_of


def answer(key, score, *, error=None, item=None, **facts):
    grade = Scored(score, score >= 0.5, error)
    return Answer(str(key), item or {"q": f"question {key}"}, f"said {key}", {"right": grade}, **facts)


def run(name, *answers, **facts):
    return Run(name, "m", answers, **facts)


def report(*runs, **options):
    return report_of("Title", runs, created_at=0, **options)


def test_a_run_is_summed_up():
    told = report(
        run(
            "a",
            answer(1, 1, latency_ms=10, prompt_tokens=3, completion_tokens=2, cost_usd=0.5),
            answer(2, 0, latency_ms=30, prompt_tokens=3, completion_tokens=4, cost_usd=0.25),
            parameters={"temperature": 0},
        )
    )
    [one] = told["runs"]
    assert one["counts"] == {"total": 2, "passed": 1, "failed": 1, "error": 0}
    assert (one["prompt_tokens"], one["completion_tokens"], one["cost_usd"]) == (6, 6, 0.75)
    assert one["latency_ms"]["p50"] == 20
    assert one["scores"]["right"]["mean"] == one["scores"]["right"]["pass_rate"] == 0.5
    assert (told["verdict"], told["graders"], told["comparisons"]) == ("passed", ["right"], [])
    assert told["items"][0]["answers"][0]["output"] == "said 1"


def test_what_could_not_be_judged_is_in_no_mean():
    told = report(run("a", answer(1, 1), answer(2, 0, error="unreadable")))
    score = told["runs"][0]["scores"]["right"]
    assert (score["n"], score["mean"], score["errors"]) == (1, 1, 1)
    assert (told["runs"][0]["counts"]["error"], told["verdict"]) == (1, "errors")


def test_runs_are_compared_item_by_item():
    first = run("a", answer(1, 1), answer(2, 0), answer(3, 0), answer(4, 1, item={"q": "other"}))
    second = run("b", answer(3, 1), answer(2, 1), answer(1, 1), answer(4, 0), answer(5, 0))
    [told] = report(first, second)["comparisons"]
    assert (told["n"], told["wins"], told["ties"], told["losses"], told["left_out"]) == (3, 2, 1, 0, 2)
    assert told["difference"] == pytest.approx(2 / 3)
    assert told["few"]


def test_a_pair_needs_both_judgements():
    [told] = report(run("a", answer(1, 1, error="x"), answer(2, 0)), run("b", answer(1, 1), answer(2, 0)))[
        "comparisons"
    ]
    assert (told["n"], told["left_out"]) == (1, 1)


@pytest.mark.parametrize("path", ["level", "sample.x", "item..x", ""])
def test_a_slice_leads_into_the_item(path):
    with pytest.raises(InvalidRequest, match="no path into the item") as wrong:
        report(run("a", answer(1, 1.0)), slices=["item.level", path])
    assert wrong.value.param == "slice"


def test_slices_have_figures_of_their_own():
    levels = [answer(n, n % 2, item={"level": "odd" if n % 2 else "even", "n": n}) for n in range(5)]
    told = report(run("a", *levels), slices=["item.level", "item.nope"])["slices"]
    assert [(row["slice"], row["value"], row["n"], row["mean"]) for row in told] == [
        ("item.level", "even", 3, 0),
        ("item.level", "odd", 2, 1),
        ("item.nope", "(none)", 5, 0.4),
    ]


def test_a_field_of_many_values_is_cut_to_the_frequent_ones():
    many = [answer(n, 1, item={"id": n}) for n in range(SLICE_VALUES_MOST + 20)]
    told = report(run("a", *many), slices=["item.id"])["slices"]
    assert len(told) == SLICE_VALUES_MOST + 1
    assert (told[0]["value"], told[0]["n"]) == (REST, 20)


def missed(*thresholds, runs):
    return [(each["run"], each["met"]) for each in report(*runs, thresholds=thresholds)["thresholds"]]


def test_thresholds_are_held_against_every_run_or_one():
    runs = run("a", answer(1, 0.8), answer(2, 0.4)), run("b", answer(1, 0.8), answer(2, 0.6))
    assert missed(Threshold("right", mean=0.65), runs=runs) == [("a", False), ("b", True)]
    assert missed(Threshold("right", run="b", pass_rate=1), runs=runs) == [("b", True)]
    assert missed(Threshold("right", not_worse_by=0), runs=runs) == [("b", True)]
    assert missed(Threshold("right", not_worse_by=0), runs=runs[::-1]) == [("a", False)]
    assert missed(Threshold("nope", mean=0), runs=runs) == [("a", False), ("b", False)]


@pytest.mark.parametrize(
    ("mean", "errors_most", "status", "verdict"),
    [
        (0.5, 0.5, "completed", "passed"),
        (1.1, 0.5, "completed", "missed"),
        (1.1, 0.4, "completed", "errors"),
        (0.5, 0.5, "failed", "errors"),
    ],
)
def test_the_verdict(mean, errors_most, status, verdict):
    answers = answer(1, 1), answer(2, 0, error="x")
    told = report(
        run("a", *answers, status=status), thresholds=[Threshold("right", mean=mean)], errors_most=errors_most
    )
    assert told["verdict"] == verdict


def test_a_run_without_answers_decides_nothing():
    assert report(run("a"))["verdict"] == "errors"
