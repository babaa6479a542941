"""A model for real WSGI and ASGI servers, which tells the comparer what it predicts.

By environment: MODEL_VERSION, COMPARER_URL (none: the comparer is not told). `GET
/predict?number=N` answers with a score; that of v3 is another one for each tenth number.
`GET /served` tells how many predictions this process has made, and how many of these for a tenth
number.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import parse_qs

from modelexperiment.comparer.middleware import Asgi, Sender, Wsgi

VERSION = os.environ.get("MODEL_VERSION", "v1")
URL = os.environ.get("COMPARER_URL", "")
served = [0, 0]


def score(number: int, version: str) -> float:
    """What a version predicts."""
    return (number * 37 % 64) / 128 + (0.25 if version == "v3" and number % 10 == 0 else 0.0)


def answer(path: str, query: str) -> bytes:
    """The body of an answer."""
    if path == "/served":
        return json.dumps(served).encode()
    number = int(parse_qs(query)["number"][0])
    served[0] += 1
    served[1] += number % 10 == 0
    outputs = [{"score": score(number, VERSION)}]
    return json.dumps({"version": VERSION, "outputs": outputs}).encode()


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """For gunicorn."""
    body = answer(environ["PATH_INFO"], environ["QUERY_STRING"])
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """For uvicorn."""
    assert scope["type"] == "http"
    body = answer(scope["path"], scope["query_string"].decode())
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


wsgi_app: Any = wsgi
asgi_app: Any = asgi
if URL:
    sender = Sender(URL)
    wsgi_app = Wsgi(wsgi, sender, "fraud", VERSION, "outputs.0.score")
    asgi_app = Asgi(asgi, sender, "fraud", VERSION, "outputs.0.score")
