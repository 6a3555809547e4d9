"""Does what is said on the way to an answer go out with that answer, and with no other?"""

import asyncio
from contextvars import copy_context

from api import middleware


def test_headers_go_with_the_answer_to_their_own_request():
    sent = []

    async def app(scope, receive, send):
        middleware.add_headers({"x-own": scope["path"]})
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(dict(message["headers"]))

    async def both():
        layer = middleware.RequestId(app)
        await asyncio.gather(
            *(layer({"type": "http", "path": path, "headers": []}, None, send) for path in ("/a", "/b"))
        )

    copy_context().run(asyncio.run, both())
    assert sorted(each[b"x-own"] for each in sent) == [b"/a", b"/b"]
