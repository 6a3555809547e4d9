"""What does somebody hear who does not speak HTTP?  An error in the envelope, as everybody else does.

uvicorn refuses such bytes before there is a request, in plain text; only that answer is another here.
"""

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from models import ids
from models.errors import InvalidRequest
from models.wire.errors import envelope


class Protocol(HttpToolsProtocol):
    def send_400_response(self, msg: str) -> None:
        body = orjson.dumps(envelope(InvalidRequest(msg, code="invalid_http")))
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {ids.new('req')}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
