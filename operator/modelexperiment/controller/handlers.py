"""What the operator watches. The handlers only say which experiment is due; the queue does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kopf

from modelexperiment.adapters import envoy_filter, gateway_api, istio
from modelexperiment.adapters.known import Known
from modelexperiment.controller.queue import DueQueue, Key
from modelexperiment.controller.watched import HTTP_ROUTE, VIRTUAL_SERVICE, Route, Watched
from modelexperiment.controller.watches import Watches
from modelexperiment.core.crd import GROUP, PLURAL, VERSION

_VIRTUAL_SERVICES = istio.GROUP, "virtualservices"
_HTTP_ROUTES = gateway_api.GROUP, gateway_api.PLURAL
_FILTERS = envoy_filter.GROUP, envoy_filter.PLURAL
WATCHED = (GROUP, PLURAL), _VIRTUAL_SERVICES, _HTTP_ROUTES, _FILTERS
"""Group and plural of each kind that is watched."""


def build_registry(
    queue: DueQueue[Key], watched: Watched, known: Known, watches: Watches
) -> kopf.OperatorRegistry:
    """The handlers, as a registry that kopf runs.

    `known` hears what the watches tell, `watches` which of them are open. What was known already,
    such as what the operator has written itself, wakes nobody.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.AiohttpSession | None:
        return watches.session(
            kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        )

    @kopf.on.cleanup(registry=registry)
    async def ending(**_: Any) -> None:
        watches.ending.set()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def experiment_seen(event: Mapping[str, Any], body: Mapping[str, Any], **_: Any) -> None:
        key = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        news = known.told(GROUP, PLURAL, event["type"], body)
        if event["type"] == "DELETED":
            watched.drop(key)
        else:
            watched.put(key, body.get("spec") or {})
        if news:
            queue.add(key)

    # A kind that is not installed is not watched; kopf only warns of it.
    @kopf.on.event(istio.GROUP, istio.VERSION, "virtualservices", registry=registry)
    async def virtual_service_seen(
        event: Mapping[str, Any], body: Mapping[str, Any], **_: Any
    ) -> None:
        if not known.told(*_VIRTUAL_SERVICES, event["type"], body):
            return
        for key in watched.of(_route(VIRTUAL_SERVICE, body)):
            queue.add(key)

    @kopf.on.event(gateway_api.GROUP, gateway_api.VERSION, gateway_api.PLURAL, registry=registry)
    async def http_route_seen(event: Mapping[str, Any], body: Mapping[str, Any], **_: Any) -> None:
        # What the Gateway's controller says of it is news even where the operator wrote last.
        known.told(*_HTTP_ROUTES, event["type"], body)
        for key in watched.woken_by(_route(HTTP_ROUTE, body), event["type"], body):
            queue.add(key)

    @kopf.on.event(
        envoy_filter.GROUP,
        envoy_filter.VERSION,
        envoy_filter.PLURAL,
        labels={envoy_filter.MANAGED_BY: envoy_filter.MANAGER},
        registry=registry,
    )
    async def filter_seen(event: Mapping[str, Any], body: Mapping[str, Any], **_: Any) -> None:
        if not known.told(*_FILTERS, event["type"], body):
            return
        owner = (body["metadata"].get("annotations") or {}).get(envoy_filter.EXPERIMENT, "")
        namespace, _slash, name = owner.partition("/")
        if Key(namespace, name) in watched.routes:
            queue.add(Key(namespace, name))

    return registry


def _route(kind: str, body: Mapping[str, Any]) -> Route:
    return Route(kind, body["metadata"]["namespace"], body["metadata"]["name"])


def build_settings(*, clusterwide: bool) -> kopf.OperatorSettings:
    """kopf's settings: watching only. Events, finalizers and leadership are the operator's own."""
    settings = kopf.OperatorSettings()
    # In its own namespaces only, the operator may not look at the cluster's CRDs and namespaces.
    settings.scanning.disabled = not clusterwide
    settings.posting.enabled = False
    settings.peering.standalone = True
    # A watch that has silently stalled is opened anew after this time.
    settings.watching.server_timeout = 60
    settings.watching.client_timeout = 90
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    # Where it hangs before it has even told that it ends: the last resort, kill -9.
    settings.process.ultimate_exiting_timeout = 60
    return settings
