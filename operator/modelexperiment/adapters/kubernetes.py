"""The API server: the few calls that experiments, routers and alerts need.

Every call has a time limit, and every failure becomes one of three: not there, somebody else
wrote in between, or the server does not answer as it should.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from modelexperiment.adapters.events import NotThereError
from modelexperiment.adapters.known import Address, Known
from modelexperiment.adapters.proxies import behind_proxy
from modelexperiment.ports import ConflictError, UnavailableError
from modelexperiment.settings import SettingsError

TIMEOUT = 10
PAGE = 20
_JSON_PATCH = "application/json-patch+json"
# A JSON patch whose `test` fails is answered with 422, a stale resourceVersion with 409.
_CONFLICTS = (409, 422)


class NotFoundError(Exception):
    """The object, or its kind, is not in the API server."""


def context_namespace(name: str | None = None, file: str | None = None) -> str:
    """The namespace of a kubeconfig's context (the current one), "default" where it has none."""
    try:
        every, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    except (config.ConfigException, TypeError, yaml.YAMLError):
        return "default"
    chosen = next((c for c in every if c["name"] == name), None) if name else current
    return str((chosen or {"context": {}})["context"].get("namespace") or "default")


class _WatchedClient(client.ApiClient):
    """Tells of every request that fails, whoever makes it."""

    def __init__(self, configuration: client.Configuration, failed: Callable[[str], None]) -> None:
        super().__init__(configuration)
        self._failed = failed

    async def call_api(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request; `failed` hears of the kind of failure."""
        try:
            answer = await super().call_api(*args, **kwargs)
        except (TimeoutError, aiohttp.ClientError) as error:
            self._failed("timeout" if isinstance(error, TimeoutError) else "unreachable")
            raise
        kind = _kind_of(answer.status)
        if kind:
            self._failed(kind)
        return answer


def _kind_of(status: int) -> str | None:
    """What an HTTP status says in one word; None where it is an answer."""
    if status < 400 or status == 404:
        return None
    if status >= 500:
        return "server"
    named = {401: "forbidden", 403: "forbidden", 429: "throttled"}
    return named.get(status, "conflict" if status in _CONFLICTS else "other")


async def connect(
    context: str | None = None,
    file: str | None = None,
    failed: Callable[[str], None] = lambda _: None,
) -> client.ApiClient:
    """A client by the pod's ServiceAccount, or by a context (the current one) of a kubeconfig.

    `file` is by default what KUBECONFIG names. `failed` is told of each request that fails:
    conflict, forbidden, timeout, throttled, server, unreachable or other. SettingsError where there
    is neither account nor kubeconfig.
    """
    configuration = client.Configuration()
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
    in_pod = in_pod and not (context or file)
    try:
        if in_pod:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                file, context, client_configuration=configuration
            )
    except (config.ConfigException, TypeError, yaml.YAMLError) as error:
        # A TypeError is what the client answers to a file that is not a kubeconfig at all.
        where = file or os.environ.get("KUBECONFIG", "~/.kube/config")
        asked = f" (context {context})" if context else ""
        raise SettingsError(f"KUBECONFIG: {error}, got {where}{asked}") from None
    configuration.client_session_kwargs = {"trust_env": behind_proxy()}
    return _WatchedClient(configuration, failed)


async def answer(call: Awaitable[Any]) -> Any:
    """What a call gives; NotFoundError, ConflictError or UnavailableError where it fails."""
    try:
        return await call
    except ApiException as error:
        raise _failure(error.status, error.body or error.reason) from None
    except (TimeoutError, aiohttp.ClientError) as error:
        why = str(error) or type(error).__name__
        raise UnavailableError(f"API server can't be reached: {why}") from None


def _failure(status: int, body: object) -> Exception:
    """What an answer that is no success means."""
    if status == 404:
        return NotFoundError("not found")
    if status in _CONFLICTS:
        return ConflictError(said(body))
    return UnavailableError(f"API server: {status} {said(body)}")


def said(body: object) -> str:
    """What the API server says in the body of a failure, in one line."""
    body = str(body)
    # What is no JSON is not the API server's own answer, but that of a proxy before it.
    with contextlib.suppress(ValueError, KeyError, TypeError):
        body = str(json.loads(body)["message"])
    return " ".join(body[:300].split())


class Api:
    """Objects by group, version, namespace and plural, as JSON.

    The client's own models and calls are left aside: they take ten times as long. `known` hears of
    every object that is read or written one by one.
    """

    def __init__(self, api_client: client.ApiClient, known: Known | None = None) -> None:
        self._client = api_client
        self._known = Known() if known is None else known

    async def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        media_type: str = "application/json",
        query: Mapping[str, str | int] | None = None,
    ) -> dict[str, Any]:
        """Send a request; NotFoundError, ConflictError or UnavailableError where it fails."""
        headers = {"Accept": "application/json", "Content-Type": media_type}
        method, url, headers, *_ = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        call = self._client.call_api(method, url, headers, body, _request_timeout=TIMEOUT)
        response = await answer(call)
        text: bytes = await answer(response.read())
        if response.status >= 300:
            raise _failure(response.status, text.decode(errors="replace") or response.reason)
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError):
            raise UnavailableError(f"API server gave an answer that is no JSON: {path}") from None

    async def _about(self, where: Address, request: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """Wait for the answer to a request about one object."""

        async def found_or_none() -> dict[str, Any] | None:
            with contextlib.suppress(NotFoundError):
                return await request
            return None

        found = await self._known.asking(where, found_or_none())
        if found is None:
            raise NotFoundError(f"there is no {where.plural} {where.namespace}/{where.name}")
        return found

    async def get(
        self, group: str, version: str, namespace: str, plural: str, name: str
    ) -> dict[str, Any]:
        """One object; NotFoundError where there is none."""
        path = _path(group, version, namespace, plural, name)
        where = Address(group, plural, namespace, name)
        return await self._about(where, self._request("GET", path))

    async def list(
        self, group: str, version: str, namespace: str | None, plural: str
    ) -> list[dict[str, Any]]:
        """All objects of a namespace, or of all; NotFoundError where the kind is not installed."""
        found = await self._request("GET", _path(group, version, namespace, plural))
        items: list[dict[str, Any]] = found["items"]
        return items

    async def create(
        self, group: str, version: str, namespace: str, plural: str, body: dict[str, Any]
    ) -> None:
        """Create an object; ConflictError where it is there, NotFoundError without its kind."""
        where = Address(group, plural, namespace, body["metadata"]["name"])
        path = _path(group, version, namespace, plural)
        await self._about(where, self._request("POST", path, body))

    async def delete(
        self, group: str, version: str, namespace: str, plural: str, name: str
    ) -> None:
        """Delete an object; NotFoundError where there is none."""
        where = Address(group, plural, namespace, name)
        path = _path(group, version, namespace, plural, name)

        async def gone() -> None:
            await self._request("DELETE", path)

        await self._known.asking(where, gone())

    async def namespace_labels(self, name: str) -> dict[str, str]:
        """The labels of a namespace; NotFoundError where there is none."""
        found = await self._request("GET", f"/api/v1/namespaces/{quote(name, safe='')}")
        return dict(found["metadata"].get("labels") or {})

    async def _service(self, namespace: str, name: str) -> dict[str, Any]:
        return await self._request("GET", _path("", "v1", namespace, "services", name))

    async def service(self, namespace: str, name: str) -> tuple[dict[str, str], Sequence[int]]:
        """Labels and port numbers of a Service; NotFoundError where there is none."""
        found = await self._service(namespace, name)
        ports = [int(port["port"]) for port in found["spec"].get("ports") or []]
        return dict(found["metadata"].get("labels") or {}), ports

    async def service_backing(self, namespace: str, name: str) -> tuple[str, dict[str, str]]:
        """Type and selector of a Service; NotFoundError where there is none."""
        spec = (await self._service(namespace, name))["spec"]
        return str(spec.get("type")), dict(spec.get("selector") or {})

    async def json_patch(
        self,
        group: str,
        version: str,
        namespace: str,
        plural: str,
        name: str,
        patch: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        """Apply a JSON patch; ConflictError where one of its tests fails."""
        where = Address(group, plural, namespace, name)
        path = _path(group, version, namespace, plural, name)
        return await self._about(where, self._request("PATCH", path, list(patch), _JSON_PATCH))

    async def replace_status(
        self, group: str, version: str, namespace: str, plural: str, body: dict[str, Any]
    ) -> None:
        """Replace the status of an object; ConflictError where its resourceVersion is old."""
        where = Address(group, plural, namespace, body["metadata"]["name"])
        path = f"{_path(group, version, namespace, plural, where.name)}/status"
        await self._about(where, self._request("PUT", path, body))

    async def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """The data of a Secret, base64; NotFoundError where there is none."""
        found = await self._request("GET", _path("", "v1", namespace, "secrets", name))
        return dict(found.get("data") or {})

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> AsyncIterator[bool]:
        """Whether each Pod with these labels is ready, a page at a time; not those that end."""
        selector = ",".join(f"{k}={v}" for k, v in labels.items())
        path = _path("", "v1", namespace, "pods")
        # The first is mostly ready, and then nobody asks for the others.
        page: dict[str, str | int] = {"labelSelector": selector, "limit": 1}
        while True:
            found = await self._request("GET", path, query=page)
            for pod in found["items"]:
                if not pod["metadata"].get("deletionTimestamp"):
                    conditions = pod.get("status", {}).get("conditions") or []
                    yield any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            page |= {"limit": PAGE, "continue": found["metadata"].get("continue") or ""}
            if not page["continue"]:
                return

    async def endpoints(self, namespace: str, service: str) -> Sequence[bool]:
        """Whether each endpoint of a Service is ready."""
        selector = f"kubernetes.io/service-name={service}"
        path = _path("discovery.k8s.io", "v1", namespace, "endpointslices")
        found = await self._request("GET", path, query={"labelSelector": selector})
        # An endpoint that does not say is ready.
        return [
            (endpoint.get("conditions") or {}).get("ready") is not False
            for piece in found["items"]
            for endpoint in piece.get("endpoints") or []
        ]

    async def post_event(self, namespace: str, body: dict[str, Any]) -> None:
        """Create a Kubernetes Event."""
        try:
            await self._request("POST", _path("", "v1", namespace, "events"), body)
        except NotFoundError:
            raise UnavailableError(f"there is no namespace {namespace}") from None

    async def count_event(self, namespace: str, name: str, count: int, last: str) -> None:
        """Set the count and the last time of an Event; NotThereError where it is gone."""
        patch = [
            {"op": "replace", "path": "/count", "value": count},
            {"op": "replace", "path": "/lastTimestamp", "value": last},
        ]
        path = _path("", "v1", namespace, "events", name)
        try:
            await self._request("PATCH", path, patch, _JSON_PATCH)
        except NotFoundError:
            raise NotThereError(name) from None


def _path(group: str, version: str, namespace: str | None, plural: str, name: str = "") -> str:
    """The path of a kind's objects, or of one of them."""
    parts = ["apis", group, version] if group else ["api", version]
    parts += [*(["namespaces", namespace] if namespace else []), plural, *([name] if name else [])]
    return "".join(f"/{quote(part, safe='')}" for part in parts)
