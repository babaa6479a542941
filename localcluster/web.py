"""HTTP to the parts, never through a proxy of the environment."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from .errors import ClusterError

# The parts make their own certificates; whether one answers on its own loopback port is all that
# is asked here, so nothing is verified.
_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE
_OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_UNVERIFIED)
)


def get_json(url: str) -> Any:
    """The JSON document at a URL; raises ClusterError where there is none."""
    return json.loads(request(url))


def request(url: str, *, method: str = "GET", timeout: float = 5.0) -> bytes:
    """The body of an answer; raises ClusterError where the answer is an error or none comes."""
    query = urllib.request.Request(url, method=method)
    try:
        with _OPENER.open(query, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            reason = error.read().decode(errors="replace").strip()
        raise ClusterError(f"{method} {url}: {error.code} {reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise ClusterError(f"{method} {url}: {error}") from error


def answers(url: str) -> bool:
    """Whether a URL answers with success."""
    try:
        request(url, timeout=2.0)
    except ClusterError:
        return False
    return True


def wait_until(
    condition: Callable[[], bool], what: Callable[[], str], timeout: float, pause: float = 0.05
) -> None:
    """Wait until a condition holds; raises ClusterError with ``what()`` after ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(f"not within {timeout:g} s: {what()}")
        time.sleep(pause)
