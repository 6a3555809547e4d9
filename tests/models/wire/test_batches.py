"""Is a window what it says, and does a line of a batch's files say how its row ended, in OpenAI's words?"""

from types import SimpleNamespace

import pytest

from models.errors import Cancelled, EngineError, Expired, InvalidRequest
from models.lifecycle import JobState
from models.wire.batches import BatchRequest, line, line_id, number_of, seconds
from models.wire.problems import validated

COMPLETION = {"id": "chatcmpl-1", "choices": []}


@pytest.mark.parametrize(
    ("window", "told"),
    [("1h", 3600), ("24h", 86_400), ("7d", 604_800), ("", 0), ("h", 0), ("01h", 0), ("1m", 0), ("-1h", 0), ("1 h", 0)],
)
def test_a_window_is_hours_or_days(window, told):
    assert seconds(window) == told


@pytest.mark.parametrize("window", ["0h", "8d", "169h", "60m", "99999d", "1.5h"])
def test_no_other_window_is_taken(window):
    body = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": window}
    with pytest.raises(InvalidRequest) as caught:
        validated(BatchRequest, body)
    assert caught.value.param == "completion_window"


@pytest.mark.parametrize("number", [0, 7, 49_999])
def test_a_lines_id_leads_to_its_row(number):
    assert number_of("batch_abc", line_id("batch_abc", number)) == number


@pytest.mark.parametrize(
    "name", ["", "7", "batch_req_abc_", "batch_req_abd_7", "batch_req_abc_x", "batch_req_abc_" + "9" * 10]
)
def test_any_other_id_leads_nowhere(name):
    assert number_of("batch_abc", name) is None


def told(error=None, state=None, completion=None, cancelling_ms=None, endpoint="/v1/chat/completions", job_error=None):
    batch = SimpleNamespace(id="batch_abc", cancelling_ms=cancelling_ms, spec={"endpoint": endpoint})
    row = SimpleNamespace(number=7, name="mine", job_id="job_1" if state else None, error=error and error.as_json())
    job = SimpleNamespace(state=state, error=job_error and job_error.as_json()) if state else None
    found = line(batch, row, job, completion)
    assert (found["id"], found["custom_id"]) == ("batch_req_abc_7", "mine")
    return found["response"], found["error"]


def test_an_answer():
    response, error = told(state=JobState.COMPLETED, completion=COMPLETION)
    assert (response, error) == ({"status_code": 200, "request_id": "job_1", "body": COMPLETION}, None)


def test_a_refusal_is_what_the_endpoint_would_have_said():
    response, error = told(InvalidRequest("n: no", param="n"))
    assert error is None
    assert (response["status_code"], response["request_id"]) == (400, None)
    assert response["body"]["error"] == {
        "message": "n: no",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_request",
    }


def test_a_failure():
    response, _ = told(state=JobState.FAILED, job_error=EngineError("it broke"))
    assert (response["status_code"], response["body"]["error"]["type"]) == (500, "server_error")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"error": Cancelled("x", code="batch_cancelled"), "cancelling_ms": 1}, "batch_cancelled"),
        ({"error": Cancelled("x", code="batch_expired")}, "batch_expired"),
        ({"state": JobState.CANCELLED, "cancelling_ms": 1, "job_error": None}, "batch_cancelled"),
        ({"state": JobState.EXPIRED, "job_error": Expired("late")}, "batch_expired"),
    ],
)
def test_what_the_batchs_end_has_stopped_has_no_response(more, code):
    response, error = told(**more)
    assert (response, error["code"]) == (None, code)
    assert error["message"]


def test_a_job_that_its_owner_has_cancelled_is_told_as_one():
    response, _ = told(state=JobState.CANCELLED)
    assert (response["status_code"], response["body"]["error"]["code"]) == (409, "cancelled")


def test_an_answer_that_is_gone():
    response, _ = told(state=JobState.COMPLETED)
    assert (response["status_code"], response["body"]["error"]["code"]) == (404, "answer_not_stored")
