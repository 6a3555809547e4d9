"""What does a server look like that webhooks are sent to?  Keep the body's bytes, verify their signature, then act, and answer 2xx.

    export URL=http://127.0.0.1:8700 KEY=sk-tram-...
    .venv/bin/python examples/receiver.py            # listens on port 9000, shows one delivery and ends

Any Standard Webhooks library verifies a delivery; so do OpenAI's client (`client.webhooks.unwrap`) and aigateway-py
(`verify_webhook`).  An answer other than 2xx, or none, and the delivery is tried again.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx2
from standardwebhooks import Webhook

Delivery = tuple[dict[str, str], bytes]


class Receiver(HTTPServer):
    """Keeps what it is sent; yours would act on it."""

    timeout = 30.0

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.delivery: Delivery | None = None

    def next(self) -> Delivery:
        """Headers and body; raises TimeoutError."""
        self.handle_request()
        if self.delivery is None:
            raise TimeoutError(f"no webhook came within {self.timeout:.0f} s")
        return self.delivery


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.delivery = (dict(self.headers), body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not a line a request."""


def main(port: int) -> None:
    with Receiver(port) as receiver:
        url, bearer = os.environ["URL"], {"Authorization": f"Bearer {os.environ['KEY']}"}
        secret = httpx2.get(f"{url}/v1/webhook-secret", headers=bearer).raise_for_status().json()["secret"]
        headers, body = receiver.next()
    event = Webhook(secret).verify(body, headers)  # raises WebhookVerificationError
    print(event["id"], event["type"])
    print(json.dumps(event["data"], indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 9000)
