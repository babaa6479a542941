"""What the operator watches. The handlers only say which experiment is due; the queue does it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import kopf

from modelexperiment.adapters import envoy_filter
from modelexperiment.adapters.istio import GROUP as ISTIO_GROUP
from modelexperiment.adapters.istio import VERSION as ISTIO_VERSION
from modelexperiment.controller.queue import DueQueue, Key
from modelexperiment.controller.watches import Watches
from modelexperiment.core.crd import GROUP, PLURAL, VERSION

_log = logging.getLogger(__name__)


@dataclass
class Watched:
    """Which experiments ask for which VirtualService, so that its edits find them."""

    routes: dict[Key, Key] = field(default_factory=dict)

    def put(self, experiment: Key, spec: Mapping[str, Any]) -> None:
        """Remember an experiment's VirtualService."""
        name = ((spec.get("route") or {}).get("istio") or {}).get("virtualService")
        if name:
            self.routes[experiment] = Key(experiment.namespace, str(name))

    def drop(self, experiment: Key) -> None:
        """Forget an experiment."""
        self.routes.pop(experiment, None)

    def of(self, virtual_service: Key) -> list[Key]:
        """The experiments that ask for a VirtualService."""
        return [key for key, route in self.routes.items() if route == virtual_service]


def build_registry(
    queue: DueQueue[Key], watched: Watched, watches: Watches
) -> kopf.OperatorRegistry:
    """The handlers, as a registry that kopf runs; `watches` hears which watches are open."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.AiohttpSession | None:
        return watches.session(
            kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        )

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def experiment_seen(event: Mapping[str, Any], body: Mapping[str, Any], **_: Any) -> None:
        key = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        if event["type"] == "DELETED":
            watched.drop(key)
        else:
            watched.put(key, body.get("spec") or {})
        queue.add(key)

    @kopf.on.event(ISTIO_GROUP, ISTIO_VERSION, "virtualservices", registry=registry)
    async def route_seen(body: Mapping[str, Any], **_: Any) -> None:
        route = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        for key in watched.of(route):
            queue.add(key)

    @kopf.on.event(
        ISTIO_GROUP,
        envoy_filter.VERSION,
        envoy_filter.PLURAL,
        labels={envoy_filter.MANAGED_BY: envoy_filter.MANAGER},
        registry=registry,
    )
    async def filter_seen(body: Mapping[str, Any], **_: Any) -> None:
        owner = (body["metadata"].get("annotations") or {}).get(envoy_filter.EXPERIMENT, "")
        namespace, _slash, name = owner.partition("/")
        if Key(namespace, name) in watched.routes:
            queue.add(Key(namespace, name))

    return registry


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
    return settings
