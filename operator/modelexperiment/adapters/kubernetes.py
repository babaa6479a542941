"""The API server: experiments, their status, and the few generic calls that routers need.

Every call has a time limit, and every failure becomes one of three: not there, somebody else
wrote in between, or the server does not answer as it should.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp
import yaml
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from modelexperiment.adapters.events import EventRecorder, NotThereError
from modelexperiment.adapters.proxies import behind_proxy
from modelexperiment.core.crd import GROUP, PLURAL, VERSION
from modelexperiment.core.events import Event
from modelexperiment.ports import ConflictError, Object, UnavailableError
from modelexperiment.settings import SettingsError

TIMEOUT = 10
PAGE = 20
FINALIZER = f"{GROUP}/restore-route"
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
        if error.status == 404:
            raise NotFoundError(str(error.reason)) from None
        if error.status in _CONFLICTS:
            raise ConflictError(said(error.body or error.reason)) from None
        why = said(error.body or error.reason)
        raise UnavailableError(f"API server: {error.status} {why}") from None
    except (TimeoutError, aiohttp.ClientError) as error:
        why = str(error) or type(error).__name__
        raise UnavailableError(f"API server can't be reached: {why}") from None


def said(body: object) -> str:
    """What the API server says in the body of a failure, in one line."""
    body = str(body)
    # What is no JSON is not the API server's own answer, but that of a proxy before it.
    with contextlib.suppress(ValueError, KeyError, TypeError):
        body = str(json.loads(body)["message"])
    return " ".join(body[:300].split())


class Api:
    """Custom resources by group, version, namespace and plural."""

    def __init__(self, api_client: client.ApiClient) -> None:
        self._custom = client.CustomObjectsApi(api_client)
        self._core = client.CoreV1Api(api_client)
        self._discovery = client.DiscoveryV1Api(api_client)

    async def get(
        self, group: str, version: str, namespace: str, plural: str, name: str
    ) -> dict[str, Any]:
        """One object; NotFoundError where there is none."""
        call = self._custom.get_namespaced_custom_object(
            group, version, namespace, plural, name, _request_timeout=TIMEOUT
        )
        return dict(await answer(call))

    async def list(
        self, group: str, version: str, namespace: str | None, plural: str
    ) -> list[dict[str, Any]]:
        """All objects of a namespace, or of all; NotFoundError where the kind is not installed."""
        if namespace is None:
            call = self._custom.list_cluster_custom_object(
                group, version, plural, _request_timeout=TIMEOUT
            )
        else:
            call = self._custom.list_namespaced_custom_object(
                group, version, namespace, plural, _request_timeout=TIMEOUT
            )
        items: list[dict[str, Any]] = (await answer(call))["items"]
        return items

    async def create(
        self, group: str, version: str, namespace: str, plural: str, body: dict[str, Any]
    ) -> None:
        """Create an object; ConflictError where it is there, NotFoundError without its kind."""
        call = self._custom.create_namespaced_custom_object(
            group, version, namespace, plural, body, _request_timeout=TIMEOUT
        )
        await answer(call)

    async def delete(
        self, group: str, version: str, namespace: str, plural: str, name: str
    ) -> None:
        """Delete an object; NotFoundError where there is none."""
        call = self._custom.delete_namespaced_custom_object(
            group, version, namespace, plural, name, _request_timeout=TIMEOUT
        )
        await answer(call)

    async def namespace_labels(self, name: str) -> dict[str, str]:
        """The labels of a namespace; NotFoundError where there is none."""
        found = await answer(self._core.read_namespace(name, _request_timeout=TIMEOUT))
        return dict(found.metadata.labels or {})

    async def service(self, namespace: str, name: str) -> tuple[dict[str, str], Sequence[int]]:
        """Labels and port numbers of a Service; NotFoundError where there is none."""
        call = self._core.read_namespaced_service(name, namespace, _request_timeout=TIMEOUT)
        found = await answer(call)
        return dict(found.metadata.labels or {}), [port.port for port in found.spec.ports or []]

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
        call = self._custom.patch_namespaced_custom_object(
            group,
            version,
            namespace,
            plural,
            name,
            list(patch),
            _content_type=_JSON_PATCH,
            _request_timeout=TIMEOUT,
        )
        return dict(await answer(call))

    async def replace_status(
        self, group: str, version: str, namespace: str, plural: str, body: dict[str, Any]
    ) -> None:
        """Replace the status of an object; ConflictError where its resourceVersion is old."""
        name = body["metadata"]["name"]
        call = self._custom.replace_namespaced_custom_object_status(
            group, version, namespace, plural, name, body, _request_timeout=TIMEOUT
        )
        await answer(call)

    async def secret(self, namespace: str, name: str) -> Mapping[str, str]:
        """The data of a Secret, base64; NotFoundError where there is none."""
        call = self._core.read_namespaced_secret(name, namespace, _request_timeout=TIMEOUT)
        return dict((await answer(call)).data or {})

    async def service_backing(self, namespace: str, name: str) -> tuple[str, dict[str, str]]:
        """Type and selector of a Service; NotFoundError where there is none."""
        call = self._core.read_namespaced_service(name, namespace, _request_timeout=TIMEOUT)
        spec = (await answer(call)).spec
        return str(spec.type), dict(spec.selector or {})

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> AsyncIterator[bool]:
        """Whether each Pod with these labels is ready, a page at a time; not those that end."""
        selector, page = ",".join(f"{k}={v}" for k, v in labels.items()), ""
        while True:
            call = self._core.list_namespaced_pod(
                namespace,
                label_selector=selector,
                limit=PAGE,
                _continue=page,
                _request_timeout=TIMEOUT,
            )
            found = await answer(call)
            for pod in found.items:
                if pod.metadata.deletion_timestamp is None:
                    conditions = pod.status.conditions or []
                    yield any(c.type == "Ready" and c.status == "True" for c in conditions)
            page = found.metadata._continue
            if not page:
                return

    async def endpoints(self, namespace: str, service: str) -> Sequence[bool]:
        """Whether each endpoint of a Service is ready."""
        selector = f"kubernetes.io/service-name={service}"
        call = self._discovery.list_namespaced_endpoint_slice(
            namespace, label_selector=selector, _request_timeout=TIMEOUT
        )
        # An endpoint that does not say is ready.
        return [
            endpoint.conditions is None or endpoint.conditions.ready is not False
            for found in (await answer(call)).items
            for endpoint in found.endpoints or []
        ]

    async def post_event(self, namespace: str, body: dict[str, Any]) -> None:
        """Create a Kubernetes Event."""
        # The client takes a mapping as well, which its signature does not say.
        event: Any = body
        call = self._core.create_namespaced_event(namespace, event, _request_timeout=TIMEOUT)
        try:
            await answer(call)
        except NotFoundError:
            raise UnavailableError(f"there is no namespace {namespace}") from None

    async def count_event(self, namespace: str, name: str, count: int, last: str) -> None:
        """Set the count and the last time of an Event; NotThereError where it is gone."""
        # A JSON patch, as the client names its media type by the body.
        patch: Any = [
            {"op": "replace", "path": "/count", "value": count},
            {"op": "replace", "path": "/lastTimestamp", "value": last},
        ]
        call = self._core.patch_namespaced_event(
            name, namespace, patch, _content_type=_JSON_PATCH, _request_timeout=TIMEOUT
        )
        try:
            await answer(call)
        except NotFoundError:
            raise NotThereError(name) from None


class KubernetesStore:
    """An ExperimentStore in the API server."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._events = EventRecorder(api)

    async def get(self, namespace: str, name: str) -> Object | None:
        """The object as it is now, or None."""
        try:
            return await self._api.get(GROUP, VERSION, namespace, PLURAL, name)
        except NotFoundError:
            return None

    async def list(self, namespace: str) -> Sequence[Object]:
        """All experiments of a namespace."""
        return await self._api.list(GROUP, VERSION, namespace, PLURAL)

    async def write_status(self, seen: Object, status: Mapping[str, Any]) -> None:
        """Replace the status, if nobody has written since `seen`; else ConflictError."""
        body = {**seen, "status": status}
        try:
            await self._api.replace_status(
                GROUP, VERSION, seen["metadata"]["namespace"], PLURAL, body
            )
        except NotFoundError:
            raise ConflictError("the experiment is gone") from None

    async def add_finalizer(self, seen: Object) -> Object:
        """Add the operator's finalizer; gives the object after that."""
        finalizers = list(seen["metadata"].get("finalizers", []))
        if FINALIZER in finalizers:
            return seen
        try:
            return await self._set_finalizers(seen, [*finalizers, FINALIZER])
        except NotFoundError:
            raise ConflictError("the experiment is gone") from None

    async def remove_finalizer(self, seen: Object) -> None:
        """Remove the operator's finalizer."""
        finalizers = list(seen["metadata"].get("finalizers", []))
        if FINALIZER in finalizers:
            finalizers.remove(FINALIZER)
            try:
                await self._set_finalizers(seen, finalizers)
            except NotFoundError:
                return

    async def _set_finalizers(self, seen: Object, finalizers: Sequence[str]) -> Object:
        metadata = seen["metadata"]
        patch = [
            {
                "op": "test",
                "path": "/metadata/resourceVersion",
                "value": metadata["resourceVersion"],
            },
            {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)},
        ]
        return await self._api.json_patch(
            GROUP, VERSION, metadata["namespace"], PLURAL, metadata["name"], patch
        )

    async def tell(self, seen: Object, events: Sequence[Event]) -> None:
        """Post Kubernetes Events about the object; never fails."""
        for event in events:
            await self._events.post(seen, event)
