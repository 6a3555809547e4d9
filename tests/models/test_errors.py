"""An error survives being written into a row, with its class, and tells no more than it was given."""

import pytest

from models import errors
from models.errors import KINDS, QueueFull, RateLimited, TramError, from_json


def every(root=TramError):
    """Those of floor 1: what other floors add is theirs, and is kept in no row."""
    found = {root, *(kind for child in root.__subclasses__() for kind in every(child))}
    return {kind for kind in found if kind.__module__ == errors.__name__}


@pytest.mark.parametrize("kind", sorted(KINDS.values(), key=lambda kind: kind.__name__))
def test_what_a_row_keeps_of_a_failure_turns_back_into_it(kind):
    error = kind("it broke", param="messages[0]", code="own_code")
    again = from_json(error.as_json())
    assert type(again) is kind
    assert (again.message, again.param, again.own_code, str(again)) == (
        "it broke",
        "messages[0]",
        "own_code",
        "it broke",
    )


def test_every_class_can_be_kept_but_those_that_never_reach_a_row():
    assert set(KINDS.values()) == every() - {QueueFull, RateLimited}


def test_an_error_has_its_class_code_unless_it_has_one_of_its_own():
    assert errors.NotFound("gone").own_code == "not_found"
    assert errors.NotFound("gone", code="job_not_found").own_code == "job_not_found"
    assert errors.NotFound.code == "not_found"


def test_no_two_branches_share_a_code():
    codes = [kind.code for kind in every()]
    assert len(codes) == len(set(codes))


def test_a_kind_of_a_newer_release_reads_as_a_plain_error():
    again = from_json({"kind": "Overthrown", "message": "new", "param": None, "code": "overthrown"})
    assert type(again) is TramError
    assert again.own_code == "overthrown"
    assert not again.retryable


def test_a_full_queue_says_when_to_come_back():
    error = QueueFull("full", retry_after_s=7.5)
    assert (error.retry_after_s, error.retryable, error.own_code) == (7.5, True, "queue_full")
    assert type(from_json(error.as_json())) is TramError


@pytest.mark.parametrize(
    ("kind", "retryable"),
    [
        (errors.InvalidRequest, False),
        (errors.ContextLengthExceeded, False),
        (errors.Unavailable, True),
        (errors.EngineError, False),
        (errors.EngineBusy, True),
        (errors.EngineLost, True),
        (errors.Interrupted, False),
        (errors.Expired, False),
        (errors.Cancelled, False),
    ],
)
def test_only_what_time_can_mend_is_tried_again(kind, retryable):
    assert kind("x").retryable is retryable
