"""Does an event reach its receiver, signed, once it is up again, and nobody else?  On both columns."""

import json

import aigateway
import openai
import pytest
import standardwebhooks

from tests.fakes.receiver import Reply, Sent
from tests.flow.engine import tokens
from tests.flow.hooks import Hooks, told
from tests.flow.stack import Stack, until


def deliveries(tram: Stack, job_id: str) -> list[dict]:
    return tram.listed("/v1/webhook_deliveries", job_id=job_id)


def settled(tram: Stack, job_id: str, state: str) -> dict:
    """The job's one delivery, once it stands so."""
    until(lambda: [row["state"] for row in deliveries(tram, job_id)] == [state], 60)
    row = deliveries(tram, job_id)[0]
    assert tram.http.get(f"/v1/webhook_deliveries/{row['id']}").json() == row
    return row


def accepted_by(secret: str, sent: Sent) -> set[str]:
    """Which verifiers, written by others, accept the delivery."""
    found = set()
    try:
        standardwebhooks.Webhook(secret).verify(sent.body, sent.headers)
        openai.OpenAI(api_key="none").webhooks.unwrap(sent.body, sent.headers, secret=secret)
        found |= {"standardwebhooks", "openai"}
    except (standardwebhooks.WebhookVerificationError, openai.InvalidWebhookSignatureError):
        pass
    if aigateway.verify_webhook(secret, sent.body, sent.headers["x-gateway-signature"]):
        found.add("aigateway")
    return found


def test_an_event_says_how_a_job_ended(tram: Stack, hooks: Hooks):
    job_id = tram.submit("!tokens=3", webhook_url=hooks.url, metadata={"order": "4711"})
    sent = hooks.sent()[0]
    event = told(sent).event
    secret = tram.http.get("/v1/webhook-secret").json()["secret"]
    assert accepted_by(secret, sent) == {"standardwebhooks", "openai", "aigateway"}
    assert (event["object"], event["type"]) == ("event", "chat.completion.completed")
    assert event["id"] == sent.headers["webhook-id"]
    job = tram.job(job_id)
    assert event["data"] | {"result_url": None} == job | {"result_url": None}
    assert event["data"]["result"]["choices"][0]["message"]["content"] == tokens(3)
    row = settled(tram, job_id, "delivered")
    assert (row["event_id"], row["url"], row["attempts_made"], row["next_attempt_at"]) == (
        event["id"],
        hooks.url,
        1,
        None,
    )
    assert [(attempt["number"], attempt["status"], attempt["error"]) for attempt in row["attempts"]] == [(1, 204, None)]


@pytest.mark.parametrize(
    ("script", "kind"), [("!status=400", "failed"), ("!tokens=3", "completed"), ("!hang", "cancelled")]
)
def test_each_end_has_its_event(tram: Stack, hooks: Hooks, script, kind):
    job_id = tram.submit(script, webhook_url=hooks.url)
    if kind == "cancelled":
        tram.engine.wait(running=1)
        tram.http.delete(f"/v1/jobs/{job_id}")
    event = told(hooks.sent()[0]).event
    assert (event["type"], event["data"]["state"]) == (f"chat.completion.{kind}", kind)
    settled(tram, job_id, "delivered")
    assert len(hooks.seen) == 1


def test_what_failed_is_tried_again(tram: Stack):
    """After 5 s: what was refused, what nobody took, and what was redirected, which is an answer and not an order."""
    with Hooks() as refusing, Hooks() as redirecting, Hooks() as absent:
        refusing.script(Reply(503, b"not now"))
        redirecting.script(Reply(307, headers={"Location": redirecting.url.replace("/hook", "/elsewhere")}))
        absent.down()
        made = [tram.submit("!tokens=3", webhook_url=hooks.url) for hooks in (refusing, redirecting, absent)]
        until(lambda: any(row["attempts"] for row in deliveries(tram, made[2])), 30)
        absent.up()
        refused, redirected, missed = (settled(tram, job_id, "delivered")["attempts"] for job_id in made)
        first, again = refusing.seen
        paths = {sent.path for sent in redirecting.seen}
    assert [(one["number"], one["status"], one["response_excerpt"]) for one in refused] == [
        (1, 503, "not now"),
        (2, 204, ""),
    ]
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])
    assert int(again.headers["webhook-timestamp"]) >= int(first.headers["webhook-timestamp"]) + 3
    assert ([one["status"] for one in redirected], paths) == ([307, 204], {"/hook"})
    assert [one["status"] for one in missed] == [None, 204]
    assert missed[0]["error"]


def test_410_stops_it(tram: Stack, hooks: Hooks):
    hooks.script(Reply(410))
    row = settled(tram, tram.submit("!tokens=3", webhook_url=hooks.url), "failed")
    assert (row["attempts_made"], row["next_attempt_at"]) == (1, None)
    assert len(hooks.seen) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "0x7f000001"])
def test_a_private_address_is_refused_at_the_door(tram: Stack, host):
    """Only 127.0.0.2 is allowed here; names are judged again when they are called (tests/infra/test_outbound_addresses.py)."""
    body = {"messages": [{"role": "user", "content": "!tokens=3"}], "webhook_url": f"http://{host}/hook"}
    answer = tram.http.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "webhook_url")


def test_during_a_rotation_both_secrets_sign(tram: Stack, hooks: Hooks):
    """Standard Webhooks carries both signatures; AIGateway's verifier reads one, so each secret has its turn."""
    hooks.script(Reply(500), Reply(204))
    old = tram.http.get("/v1/webhook-secret").json()["secret"]
    new = tram.http.post("/v1/webhook-secret/rotate").json()["secret"]
    assert old != new
    assert tram.http.get("/v1/webhook-secret").json() == {"secret": new, "previous_secret": old}
    tram.submit("!tokens=3", webhook_url=hooks.url)
    first, second = hooks.sent(2)
    for sent in (first, second):
        assert accepted_by(new, sent) >= {"standardwebhooks", "openai"}
        assert accepted_by(old, sent) >= {"standardwebhooks", "openai"}
    assert "aigateway" in accepted_by(new, first) ^ accepted_by(new, second)
    assert "aigateway" in accepted_by(old, first) ^ accepted_by(old, second)
    assert accepted_by("whsec_" + "A" * 43 + "=", first) == set()


def test_the_log_is_listed_and_filtered(tram: Stack, hooks: Hooks):
    hooks.script(Reply(410))
    gone, told_of = (tram.submit("!tokens=1", webhook_url=hooks.url) for _ in range(2))
    states = {settled_state(tram, job_id) for job_id in (gone, told_of)}
    assert states == {"failed", "delivered"}
    failed = {row["job_id"] for row in tram.listed("/v1/webhook_deliveries", state="failed")}
    assert len(failed & {gone, told_of}) == 1
    assert json.dumps(tram.listed("/v1/webhook_deliveries", limit=1)) == json.dumps(
        tram.listed("/v1/webhook_deliveries")
    )


def settled_state(tram: Stack, job_id: str) -> str:
    until(lambda: [row["state"] for row in deliveries(tram, job_id)] not in ([], ["pending"]), 60)
    return deliveries(tram, job_id)[0]["state"]
