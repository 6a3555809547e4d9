"""Our deliveries are read by verifiers that other people wrote; our schedule is read by us."""

import json
import math
import time
from base64 import b64decode
from datetime import UTC, datetime, timedelta, timezone

import aigateway
import openai
import pytest
import standardwebhooks
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import TramError
from models.lifecycle import JobState
from models.webhooks import (
    PAYLOAD_LIMIT_BYTES,
    SCHEDULE_S,
    Verdict,
    completion_event,
    event_body,
    new_secret,
    next_due,
    sign,
    verdict,
)

NOW = datetime(2026, 11, 20, 10, 25, 0, 123456, tzinfo=UTC)
JOB = {
    "id": "job_1",
    "status": "completed",
    "result": {"text": "grüß dich \U0001f44b"},
    "result_url": None,
    "error": None,
}
URL = "https://tram.example/v1/jobs/job_1/result"
UNHURRIED = settings(deadline=None)  # a busy machine is no failure
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
hostile_text = st.text() | st.text(st.sampled_from('a\0"\\ü\ud83d\udc4b\udfff'))  # halves of surrogate pairs too


def body_of(data=JOB, **more):
    return event_body("evt_1", "chat.completion.completed", NOW, dict(data), result_url=URL, **more)


def signed(body, *secrets):
    return sign(secrets, "evt_1", int(time.time()), body)


def standard_accepts(secret, body, headers):
    try:
        standardwebhooks.Webhook(secret).verify(body, headers)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def openai_accepts(secret, body, headers):
    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    try:
        client.webhooks.unwrap(body, headers)
    except openai.InvalidWebhookSignatureError:
        return False
    finally:
        client.close()
    return True


def aigateway_accepts(secret, body, headers):
    return aigateway.verify_webhook(secret, body, headers["X-Gateway-Signature"])


PEERS = [standard_accepts, openai_accepts, aigateway_accepts]


# Signing


@pytest.mark.parametrize("accepts", PEERS)
def test_verifiers_of_others_accept_what_we_sign_and_nothing_else(accepts):
    secret, body = new_secret(), body_of()
    headers = signed(body, secret)
    assert accepts(secret, body, headers)
    assert not accepts(new_secret(), body, headers)
    assert not accepts(secret, body.replace(b"completed", b"cancelled"), headers)


def test_another_events_name_or_time_breaks_the_signature():
    secret, body = new_secret(), body_of()
    headers = signed(body, secret)
    assert not standard_accepts(secret, body, {**headers, "webhook-id": "evt_2"})
    earlier = str(int(headers["webhook-timestamp"]) - 1)
    assert not standard_accepts(secret, body, {**headers, "webhook-timestamp": earlier})


def test_old_signatures_are_refused_by_every_verifier():
    secret, body = new_secret(), body_of()
    headers = sign((secret,), "evt_1", int(time.time()) - 301, body)
    assert not standard_accepts(secret, body, headers)
    assert not openai_accepts(secret, body, headers)
    assert not aigateway_accepts(secret, body, headers)


@pytest.mark.parametrize("accepts", [standard_accepts, openai_accepts])
def test_during_a_rotation_both_secrets_are_accepted(accepts):
    new, old, body = new_secret(), new_secret(), body_of()
    headers = signed(body, new, old)
    assert accepts(new, body, headers)
    assert accepts(old, body, headers)
    assert not accepts(new_secret(), body, headers)


def test_aigateways_verifier_reads_one_signature_and_the_order_says_whose():
    new, old, body = new_secret(), new_secret(), body_of()
    assert aigateway_accepts(new, body, signed(body, new, old))
    assert aigateway_accepts(old, body, signed(body, old, new))
    assert signed(body, new, old)["X-Gateway-Signature"].count("v1=") == 2


@given(hostile_text)
@UNHURRIED
def test_whatever_a_model_says_is_signed_and_read_back(text):
    secret, body = new_secret(), body_of({"result": text})
    assert aigateway_accepts(secret, body, signed(body, secret))
    assert standard_accepts(secret, body, signed(body, secret))
    halves_joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert json.loads(body)["data"]["result"] == halves_joined


def test_secrets_are_standard_webhooks_and_never_the_same():
    secret = new_secret()
    assert secret.startswith("whsec_")
    assert len(b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    assert len({new_secret() for _ in range(100)}) == 100


# What is sent


def test_a_body_follows_both_conventions():
    assert json.loads(body_of()) == {
        "id": "evt_1",
        "object": "event",
        "type": "chat.completion.completed",
        "created_at": 1795170300,
        "timestamp": "2026-11-20T10:25:00.123456Z",
        "data": JOB,
    }


def test_a_time_in_another_zone_is_the_same_time():
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert event_body("evt_1", "chat.completion.completed", there, dict(JOB), result_url=URL) == body_of()


def test_a_time_without_zone_is_a_mistake():
    with pytest.raises(AssertionError):
        event_body("evt_1", "x", NOW.replace(tzinfo=None), {}, result_url=URL)


def test_openais_client_reads_our_event_types_though_it_does_not_know_them():
    secret, body = new_secret(), body_of()
    with openai.OpenAI(api_key="none", webhook_secret=secret) as client:
        event = client.webhooks.unwrap(body, signed(body, secret))
    assert (event.type, event.id, event.created_at) == ("chat.completion.completed", "evt_1", 1795170300)


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_an_event(state):
    assert completion_event(state) == f"chat.completion.{state.value}"


@given(st.dictionaries(st.text(), json_values))
@UNHURRIED
def test_a_body_is_the_json_of_its_data_and_the_same_each_time(data):
    body = body_of(data)
    assert json.loads(body)["data"] == (data if len(body) <= PAYLOAD_LIMIT_BYTES else {**data, "result_url": URL})
    assert body_of(data) == body


def test_no_number_that_is_not_json_is_sent():
    with pytest.raises(ValueError, match="not JSON compliant"):
        body_of({"result": math.nan})


def test_a_result_is_sent_up_to_the_limit_and_not_a_byte_beyond():
    room = PAYLOAD_LIMIT_BYTES - len(body_of({**JOB, "result": ""}))
    whole, over = body_of({**JOB, "result": "x" * room}), body_of({**JOB, "result": "x" * (room + 1)})
    assert len(whole) == PAYLOAD_LIMIT_BYTES
    assert json.loads(whole)["data"]["result"] == "x" * room
    assert json.loads(over)["data"] == {"id": "job_1", "status": "completed", "result_url": URL, "error": None}


def test_the_limit_counts_bytes_not_characters():
    assert "result" not in json.loads(body_of({"result": "ü" * (PAYLOAD_LIMIT_BYTES // 2)}))["data"]


def test_thin_deliveries_never_carry_the_result():
    assert json.loads(body_of(thin=True))["data"] == {
        "id": "job_1",
        "status": "completed",
        "result_url": URL,
        "error": None,
    }


def test_a_job_without_result_is_not_said_to_have_one():
    failed = {"id": "job_1", "status": "failed", "error": TramError("broke").as_json()}
    assert json.loads(body_of(failed, thin=True))["data"] == failed


# Trying again


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((200, Verdict.DELIVERED), (201, Verdict.DELIVERED), (204, Verdict.DELIVERED), (299, Verdict.DELIVERED)),
        *((410, Verdict.GONE), (408, Verdict.RETRY_SLOWLY), (429, Verdict.RETRY_SLOWLY), (504, Verdict.RETRY_SLOWLY)),
        *((199, Verdict.RETRY), (300, Verdict.RETRY), (301, Verdict.RETRY), (308, Verdict.RETRY), (400, Verdict.RETRY)),
        *(
            (401, Verdict.RETRY),
            (404, Verdict.RETRY),
            (500, Verdict.RETRY),
            (503, Verdict.RETRY),
            (None, Verdict.RETRY),
        ),
        *((0, Verdict.RETRY), (101, Verdict.RETRY), (999, Verdict.RETRY)),
    ],
)
def test_verdicts(status, expected):
    assert verdict(status) is expected


def test_a_time_out_is_taken_slowly():
    assert verdict(None, timed_out=True) is Verdict.RETRY_SLOWLY


def test_the_schedule_is_walked_once_from_its_first_step_to_its_last():
    delays = [(next_due(attempts, NOW, None, 0) - NOW).total_seconds() for attempts in range(len(SCHEDULE_S))]
    assert delays == [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert next_due(len(SCHEDULE_S), NOW, None, 0) is None
    assert next_due(1000, NOW, 5, 1) is None


def delay_s(attempts, retry_after_s=None, jitter=0.0, **more):
    return (next_due(attempts, NOW, retry_after_s, jitter, **more) - NOW).total_seconds()


def test_jitter_is_a_fifth_either_way():
    assert (delay_s(2, jitter=-1), delay_s(2, jitter=1)) == (240, 360)
    assert delay_s(0, jitter=1) == 0


@pytest.mark.parametrize(
    ("asked_s", "delay"), [(0, 300), (-5, 300), (299, 300), (400, 400), (600, 600), (601, 600), (1e9, 600)]
)
def test_retry_after_is_honoured_between_the_step_and_twice_the_step(asked_s, delay):
    assert delay_s(2, asked_s) == delay


def test_jitter_never_comes_earlier_than_asked():
    assert (delay_s(2, 400, jitter=-1), delay_s(2, 400, jitter=1), delay_s(2, 590, jitter=-1)) == (480, 480, 600)


@pytest.mark.parametrize(("asked_s", "delay"), [(math.inf, 600), (-math.inf, 300), (math.nan, 300)])
def test_retry_after_that_is_no_number(asked_s, delay):
    assert delay_s(2, asked_s) == delay


def test_slowly_is_a_minute_at_least():
    assert (delay_s(1, slowly=True), delay_s(1, slowly=True, jitter=-1), delay_s(1, slowly=True, jitter=1)) == (
        60,
        60,
        72,
    )
    assert delay_s(1, 90, slowly=True) == 90
    assert delay_s(1, 1000, slowly=True) == 120
    assert delay_s(2, slowly=True) == 300


@given(
    attempts=st.integers(0, len(SCHEDULE_S) - 1),
    asked_s=st.none() | st.floats() | st.floats(0, 200_000),
    jitter=st.floats(-1, 1),
    slowly=st.booleans(),
)
@UNHURRIED
def test_no_stranger_moves_an_attempt_out_of_its_window(attempts, asked_s, jitter, slowly):
    step_s = max(SCHEDULE_S[attempts], 60 if slowly else 0)
    delay = delay_s(attempts, asked_s, jitter, slowly=slowly)
    assert 0.8 * step_s - 0.001 <= delay <= 2 * step_s + 0.001
    if asked_s is not None and step_s <= asked_s <= 2 * step_s:
        assert delay >= asked_s - 0.001
