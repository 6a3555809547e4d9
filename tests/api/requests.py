"""A request as a route gets it, for routes that are called in process and stand on the database alone."""

from starlette.requests import Request

from api.deps import State


def request_of(database, key):
    others = ("settings", "redis", "reader", "writer", "publisher", "objects", "fleet", "intake")
    state = State(database=database, **dict.fromkeys(others))
    headers = [(b"authorization", f"Bearer {key}".encode())]
    return Request({"type": "http", "path": "/", "query_string": b"", "state": {"tram": state}, "headers": headers})
