"""What a reader of the dashboard must not see: an address may hold a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

HIDDEN = "hidden"


def without_secrets(seen: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the addresses' secret parts hidden.

    Of a receiver of alerts that is its path, as Slack and others have it; of any other address
    what stands behind a question mark.
    """
    spec = dict(seen.get("spec") or {})
    shown = {name: _hidden(value) for name, value in spec.items() if name != "alerts"}
    if "alerts" in spec:
        shown["alerts"] = _hidden(spec["alerts"], path=True)
    return {**seen, "spec": shown}


def _hidden(value: Any, path: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _address(its, path) if name in ("url", "uri") else _hidden(its, path)
            for name, its in value.items()
        }
    return [_hidden(its, path) for its in value] if isinstance(value, list) else value


def _address(url: Any, path: bool) -> Any:
    if not isinstance(url, str):
        return url
    parts = urlsplit(url)
    if path and parts.path.strip("/"):
        return f"{parts.scheme}://{parts.netloc}/{HIDDEN}"
    return url.partition("?")[0] + (f"?{HIDDEN}" if parts.query else "")
