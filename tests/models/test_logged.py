"""Which stored completions become questions: those that the filters find, the account's own, and none that was made to be graded."""

import pytest

from models import logged
from models.accounts import create_account
from models.deletions import delete_job
from models.errors import InvalidRequest
from models.tables.jobs import Door
from models.wire.evals import StoredCompletions
from tests.models.conftest import NOW, asked, said

SECOND = NOW // 1000


@pytest.fixture
def spoken(session, account):
    """A chat of two turns, and one of another model."""
    first = asked(session, account, [said("a")], "b", id=f"job_{1:026}", meta={"k": "v"})
    history = [said("a"), said("b", "assistant"), said("c")]
    second = asked(session, account, history, "d", "e", id=f"job_{2:026}", meta={"k": "v", "l": "w"})
    third = asked(session, account, [said("x")], "y", id=f"job_{3:026}", model="other", created_ms=NOW + 5_000)
    return first, second, third


def found(session, account, meta=(), **filters):
    return logged.items(session, account, StoredCompletions(type="stored_completions", **filters), dict(meta))


def test_a_completion_becomes_an_item_with_its_prompt_and_the_answer_it_had(session, account, spoken):
    second = found(session, account)[1]
    name = f"chatcmpl-{2:026}"
    assert second.item == {
        "id": name,
        "model": "mistral-small",
        "input": [said("a"), said("b", "assistant"), said("c")],
        "output": "d",
        "metadata": {"k": "v", "l": "w"},
        "created_at": SECOND,
    }
    assert [choice["message"]["content"] for choice in second.given["choices"]] == ["d", "e"]
    assert second.where == name


@pytest.mark.parametrize(
    ("filters", "meta", "numbers"),
    [
        ({}, {}, [1, 2, 3]),
        ({"model": "other"}, {}, [3]),
        ({"metadata": {"k": "v"}}, {}, [1, 2]),
        ({"metadata": {"k": "v"}}, {"l": "w"}, [2]),
        ({"created_after": SECOND + 1}, {}, [3]),
        ({"created_before": SECOND}, {}, [1, 2]),
        ({"limit": 2}, {}, [2, 3]),
    ],
)
def test_filters_find_some_of_them(session, account, spoken, filters, meta, numbers):
    assert [each.item["id"] for each in found(session, account, meta, **filters)] == [
        f"chatcmpl-{number:026}" for number in numbers
    ]


def test_what_is_anothers_deleted_replayed_or_graded_is_not_found(session, account, spoken):
    delete_job(session, spoken[0], NOW)
    asked(session, account, [said("a")], "b", door=Door.REPLAY, batch_id="rpl_1")
    asked(session, account, [said("a")], "b", door=Door.EVAL, batch_id="evalrun_1")
    asked(session, account, [said("a")], "b", store=False)
    assert [each.item["id"][-1] for each in found(session, account)] == ["2", "3"]
    with pytest.raises(InvalidRequest, match="no stored completion"):
        found(session, create_account(session, "eve", NOW))


def test_too_many_are_not_cut_in_silence(session, account, spoken, monkeypatch):
    monkeypatch.setattr(logged, "ITEMS_MOST", 2)
    with pytest.raises(InvalidRequest, match="say how many") as wrong:
        found(session, account)
    assert wrong.value.param == "data_source.source.limit"
