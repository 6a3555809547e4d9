"""Does the application answer for itself where no route does?  In process, with nothing behind it."""

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from infra.settings import Settings


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app(Settings(_env_file=None)), raise_server_exceptions=False)


def test_what_breaks_is_answered_with_the_id_it_is_logged_under(client: TestClient, caplog: pytest.LogCaptureFixture):
    async def breaks() -> None:
        raise RuntimeError("nobody's business")

    client.app.add_api_route("/breaks", breaks)
    answer = client.get("/breaks", headers={"X-Request-Id": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine")
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "nobody's" not in answer.text
    assert "a request broke" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "there"),
    [
        ("PUT", "/v1/jobs", "GET, POST"),
        ("PATCH", "/v1/chat/completions/chatcmpl-x", "DELETE, GET, POST"),
        ("POST", "/docs", "GET"),
    ],
)
def test_a_method_that_is_not_there_is_told_which_are(client: TestClient, method: str, path: str, there: str):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, there)
