"""Items are due when nothing of theirs waits or runs, and are graded once; on both databases."""

import pytest

from models import batches, eval_items, evals
from models.batches import NewBatch, NewRow
from models.datasets import Item
from models.deletions import Doomed
from models.errors import Conflict, NotFound
from models.eval_items import Graded
from models.evals import NewEval, NewRun
from models.handover import Ending
from models.jobs import finish
from models.lifecycle import JobState
from models.listings import Window
from models.tables.batches import Batch, BatchKind, BatchState
from models.tables.evals import EvalRun, Metric, Outcome
from models.tables.jobs import Door
from tests.models.conftest import NOW, claimed, new_job

NAME = "evalrun_" + "0" * 26
NOUGHT = {"name": "right", "passed": 0, "failed": 0, "errored": 0, "score": 0.0}
RIGHT = {"name": "right", "type": "string_check", "score": 1.0, "passed": True, "sample": None, "error": None}
WRONG = RIGHT | {"score": 0.0, "passed": False}
UNSURE = WRONG | {"error": "the judge babbles"}


@pytest.fixture
def made(session, account):
    return eval_of(session, account)


def eval_of(session, account, name="eval_1", metric=None, updated_ms=NOW):
    source = {"type": "custom", "item_schema": {}}
    evals.create(session, NewEval(name, account, "n", source, [{"name": "right"}], metric, {}, updated_ms))
    return name


def run_of(session, account, name=NAME, items=3, model="m", eval_id="eval_1"):
    batches.begin(session, NewBatch(name, account, BatchKind.EVAL, {}, NOW))
    source = {"type": "completions", "source": {"type": "file_content"}}
    new = NewRun(name, eval_id, account, "r", model, source, [dict(NOUGHT)], NOW)
    evals.start(session, new, [Item({"n": n}) for n in range(items)])
    return session.get_one(EvalRun, name, populate_existing=True)


def rows(session, run, *numbers):
    """As many rows, each with a job that has ended."""
    batches.add(session, run.id, [NewRow(number, {"messages": []}, detail={"key": "0/k"}) for number in numbers])
    session.flush()
    new = {number: new_job(session, run.account_id, door=Door.EVAL, batch_id=run.id) for number in numbers}
    batches.feed(session, run.id, new)
    for job in new.values():
        claimed(session, job.id)
        finish(session, job.id, 1, Ending(JobState.COMPLETED, NOW, result={"completion": {}}))
    return new


def grades(session, run, *outcomes, first=0, **facts):
    words = {Outcome.PASS: RIGHT, Outcome.FAIL: WRONG, Outcome.ERROR: UNSURE}
    given = [
        Graded(number, outcome, [words[outcome]], {"output": []}, **facts)
        for number, outcome in enumerate(outcomes, first)
    ]
    told = eval_items.grade(session, run.id, given, NOW)
    session.expire_all()
    return told


def ended(session, run, state=BatchState.COMPLETED):
    batch = session.get_one(Batch, run.id)
    batch.state, batch.ended_ms = state, NOW
    session.flush()


def test_an_item_waits_for_its_answer_and_then_for_all_its_judges(session, account, made):
    run = run_of(session, account)
    new = rows(session, run, 0, 1, 2)
    assert eval_items.due(session, run) == []
    batches.settle(session, run.id, [0, 1])
    assert [each.item.number for each in eval_items.due(session, run)] == [0, 1]
    judges = eval_items.judges_rows(run, 1, {"0/label": {"messages": []}, "1/score": {"messages": []}})
    assert [(row.number, row.detail) for row in judges] == [(4, {"key": "0/label"}), (7, {"key": "1/score"})]
    rows(session, run, 4, 7)
    (first,) = eval_items.due(session, run)
    assert (first.item.number, first.answer.job.id, first.judged) == (0, new[0].id, [])
    batches.settle(session, run.id, [4])
    assert [each.item.number for each in eval_items.due(session, run)] == [0]
    batches.settle(session, run.id, [7])
    second = eval_items.due(session, run)[1]
    assert ([each.row.number for each in second.judged], second.answer.row.number) == ([4, 7], 1)


def test_without_a_model_the_rows_are_judges_alone(session, account, made):
    run = run_of(session, account, items=2, model=None)
    assert [each.item.number for each in eval_items.due(session, run)] == [0, 1]
    rows(session, run, 3)
    assert [each.item.number for each in eval_items.due(session, run)] == [0]
    batches.settle(session, run.id, [3])
    _, second = eval_items.due(session, run)
    assert (second.answer, [each.row.number for each in second.judged]) == (None, [3])


def test_a_row_that_never_became_a_job_leaves_its_item_due(session, account, made):
    run = run_of(session, account, items=1)
    batches.add(session, run.id, [NewRow(0, None, error={"message": "too long"})])
    (each,) = eval_items.due(session, run)
    assert (each.answer.job, each.answer.row.error) == (None, {"message": "too long"})


def test_grades_are_added_up_once(session, account, made):
    run = run_of(session, account)
    words = (Outcome.PASS, Outcome.FAIL, Outcome.ERROR)
    assert grades(session, run, *words, latency_ms=200, cost_micros=5) == 3
    assert grades(session, run, *words, latency_ms=200, cost_micros=5) == 0
    run = session.get_one(EvalRun, run.id)
    assert (run.passed, run.failed, run.errored, run.sampled) == (1, 1, 1, 3)
    assert (run.latency_ms, run.cost_micros) == (600, 15)
    assert run.criteria == [NOUGHT | {"passed": 1, "failed": 1, "errored": 1, "score": 1.0}]
    assert [item.score for item in eval_items.graded_of(session, run.id)] == [1.0, 0.0, None]
    assert [item.number for item in eval_items.graded_of(session, run.id, limit=1)] == [0]
    assert eval_items.due(session, run) == []


def test_a_page_ends_early_where_its_items_are_large(session, account, made, monkeypatch):
    run = run_of(session, account, items=3)
    grades(session, run, Outcome.PASS, Outcome.PASS, Outcome.PASS)
    monkeypatch.setattr(eval_items, "PAGE_BYTES", 1)
    seen, after, more = [], None, True
    while more:
        found, more = eval_items.page(session, run.id, Window(after=after, ascending=True))
        seen.append([item.number for item in found])
        after = eval_items.name_of(found[-1])
    assert seen == [[0], [1], [2]]


def test_however_many_were_graded_few_are_held_at_once(session, account, made):
    run = run_of(session, account, items=60)
    grades(session, run, *[Outcome.PASS] * 60)
    session.expunge_all()
    held = [len(session.identity_map) for _ in eval_items.graded_each(session, NAME)]
    assert len(held) == 60
    assert max(held) < 30


def test_no_run_is_begun_of_an_eval_that_is_deleted_at_that_moment(session, account, made):
    evals.delete_eval(session, made)
    with pytest.raises(NotFound, match="eval_1"):
        run_of(session, account)


def test_graded_items_are_listed_page_by_page(session, account, made):
    run = run_of(session, account, items=4)
    grades(session, run, Outcome.PASS, Outcome.FAIL, Outcome.PASS)
    first, more = eval_items.page(session, run.id, Window(limit=2, ascending=True))
    assert ([item.number for item in first], more) == ([0, 1], True)
    name = eval_items.name_of(first[-1])
    rest, more = eval_items.page(session, run.id, Window(after=name, ascending=True))
    assert ([item.number for item in rest], more) == ([2], False)
    back, _ = eval_items.page(session, run.id, Window(after=name))
    assert [item.number for item in back] == [0]
    passed, _ = eval_items.page(session, run.id, Window(ascending=True), Outcome.PASS)
    assert [item.number for item in passed] == [0, 2]
    assert eval_items.find(session, run.id, name).number == 1
    assert eval_items.find(session, run.id, name[:-1] + "3") is None, "not graded yet"
    assert eval_items.find(session, run.id, "outputitem_odd") is None


def test_the_best_run_gives_its_model_the_evals_name(session, account, made):
    with pytest.raises(NotFound):
        evals.winner(session, account, "eval_nope")
    with pytest.raises(Conflict):
        evals.winner(session, account, made)
    for place, (model, outcome, state) in enumerate(
        [
            ("poor", Outcome.FAIL, BatchState.COMPLETED),
            ("good", Outcome.PASS, BatchState.COMPLETED),
            ("dear", Outcome.PASS, BatchState.COMPLETED),
            ("gone", Outcome.PASS, BatchState.CANCELLED),
        ]
    ):
        run = run_of(session, account, f"evalrun_{place:026}", 1, model)
        grades(session, run, outcome, latency_ms=5, cost_micros=9 if model == "dear" else 5)
        ended(session, run, state)
    assert evals.winner(session, account, made) == "good"


@pytest.mark.parametrize(("metric", "model"), [(Metric.QUALITY, "a"), (Metric.COST, "b"), (Metric.SPEED, "c")])
def test_a_metric_says_which_is_best(session, account, metric, model):
    eval_of(session, account, metric=metric)
    facts = {"a": (Outcome.PASS, 9, 9), "b": (Outcome.FAIL, 1, 9), "c": (Outcome.FAIL, 9, 1)}
    for place, (name, (outcome, cost, latency)) in enumerate(facts.items()):
        run = run_of(session, account, f"evalrun_{place:026}", 1, name)
        grades(session, run, outcome, cost_micros=cost, latency_ms=latency)
        if place == 2:
            with pytest.raises(Conflict, match="still running"):
                evals.winner(session, account, "eval_1")
        ended(session, run)
    assert evals.winner(session, account, "eval_1") == model


def test_what_still_runs_is_not_deleted_and_what_has_ended_is(session, account, made):
    run = run_of(session, account, items=1)
    (new,) = rows(session, run, 0).values()
    with pytest.raises(Conflict):
        evals.delete_runs(session, [run.id], NOW)
    with pytest.raises(Conflict):
        evals.delete_eval(session, made)
    ended(session, run)
    assert evals.jobs_left(session, [run.id], 5) == [Doomed(new.id, 1)]
    evals.delete_runs(session, [run.id], NOW)
    assert session.get(Batch, run.id, populate_existing=True) is None
    assert evals.find_run(session, account, made, NAME) is None
    evals.delete_eval(session, made)
    assert evals.find(session, account, made) is None


def test_evals_are_listed_by_their_making_or_their_last_change(session, account):
    for number in (1, 2, 3):
        eval_of(session, account, f"eval_{number}", updated_ms=NOW + number)
    evals.change(session, account, "eval_1", NOW + 9, name="new")
    by_id, more = evals.listed(session, account, Window(limit=2, ascending=True), by_update=False)
    assert ([row.id for row in by_id], more) == (["eval_1", "eval_2"], True)
    rest, _ = evals.listed(session, account, Window(after="eval_2", ascending=True), by_update=False)
    assert [row.id for row in rest] == ["eval_3"]
    latest, _ = evals.listed(session, account, Window(limit=2), by_update=True)
    assert [row.id for row in latest] == ["eval_1", "eval_3"]
    older, more = evals.listed(session, account, Window(after="eval_3"), by_update=True)
    assert ([row.id for row in older], more) == (["eval_2"], False)


def test_usage_is_told_by_model(session, account, made):
    run = run_of(session, account, items=2)
    rows(session, run, 0, 1)
    (used,) = evals.usage_of(session, [run.id])[run.id]
    assert (used.model, used.invocations) == ("mistral-small", 2)


@pytest.mark.parametrize(
    ("state", "graded", "status"),
    [
        (BatchState.IN_PROGRESS, False, "queued"),
        (BatchState.FINALIZING, True, "in_progress"),
        (BatchState.COMPLETED, True, "completed"),
        (BatchState.FAILED, True, "failed"),
        (BatchState.EXPIRED, True, "failed"),
        (BatchState.CANCELLED, False, "canceled"),
    ],
)
def test_a_runs_status_is_filtered_as_it_is_shown(session, account, made, state, graded, status):
    from models.wire.eval_views import status_of

    run = run_of(session, account, items=1)
    if graded:
        grades(session, run, Outcome.PASS)
    batch = session.get_one(Batch, run.id)
    batch.state, batch.ended_ms = state, NOW if state in batches.ENDED else None
    session.flush()
    shown = evals.find_run(session, account, made, run.id)
    assert status_of(shown) == status
    words = ("queued", "in_progress", "completed", "failed", "canceled")
    found = [word for word in words if evals.runs_page(session, made, Window(), evals.with_status(word))[0]]
    assert found == [status]
