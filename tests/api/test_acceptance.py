"""Is a job shown as it was accepted, without a look at the database that might fail?  Where no worker takes it."""

import time

import pytest

from tests.api.conftest import Api

ASKED = {"messages": [{"role": "user", "content": "Hello!"}], "metadata": {"order": "4711"}, "max_tokens": 5}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/jobs", {"webhook_url": "https://example.com/hook", "deadline": int(time.time()) + 600}),
        ("/v1/jobs", {"conversation": "mine", "service_tier": "flex", "store": False}),
        ("/v1/chat/completions", {"background": True}),
    ],
    ids=["deadline", "conversation", "background"],
)
def test_what_was_accepted_is_what_is_there(api: Api, path: str, fields: dict[str, object]):
    answer = api.http.post(path, json=ASKED | fields)
    assert answer.status_code == 202, answer.text
    assert api.http.get(answer.headers["location"]).json() == answer.json()
