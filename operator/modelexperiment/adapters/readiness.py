"""Which versions have ready endpoints.

A version behind a Kubernetes Service is served by the Pods that its selector matches, with Istio
by those of them that have the subset's labels; without a selector its EndpointSlices tell. Behind a
ServiceEntry an endpoint has no readiness: it counts as ready where it is listed. What can't be seen
from the experiment's namespace counts as ready: another namespace's host, an external name, an
entry that leaves its endpoints to DNS or to a workload selector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelexperiment.adapters.istio import GROUP, VERSION, qualified, subsets
from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.spec import IstioRoute

Labels = Mapping[str, str]


def service_name(host: str, namespace: str) -> str | None:
    """The Service of this namespace that a destination host means, if it means one."""
    found = re.fullmatch(rf"([^.]+)\.{re.escape(namespace)}\.svc(\..+)?", host)
    return found.group(1) if found else None


def subset_labels(
    rules: Sequence[Mapping[str, Any]], host: str, namespace: str, subset: str
) -> Labels:
    """The labels that a DestinationRule's subset asks for; {} where it asks for none."""
    for rule in rules:
        if qualified(str(rule["spec"].get("host", "")), namespace) == host:
            for found in rule["spec"].get("subsets") or []:
                if found["name"] == subset:
                    return dict(found.get("labels") or {})
    return {}


def listed(entries: Sequence[Mapping[str, Any]], host: str, labels: Labels) -> bool | None:
    """Whether the ServiceEntry of a host lists an endpoint with these labels; None: can't be seen.

    Of several entries for one host Istio takes the endpoints together.
    """
    endpoints: list[Mapping[str, Any]] = []
    own = [entry["spec"] for entry in entries if host in entry["spec"].get("hosts", ())]
    for spec in own:
        if not spec.get("endpoints"):
            static = spec.get("resolution") == "STATIC"
            if not static or spec.get("workloadSelector"):
                return None
        endpoints += spec.get("endpoints") or []
    if not own:
        return None
    return any(labels.items() <= (e.get("labels") or {}).items() for e in endpoints)


def _words(labels: Labels) -> str:
    return ", ".join(f"{name}={value}" for name, value in labels.items())


@dataclass(frozen=True)
class ReadyEndpoints:
    """Looks at Services, Pods, EndpointSlices and ServiceEntries."""

    api: Api

    async def not_ready(self, experiment: Experiment) -> Mapping[str, str]:
        """Why each version that has no ready endpoint has none; UnavailableError."""
        istio = experiment.spec.route.istio
        if istio is not None:
            found = await self._of_subsets(experiment, istio)
        else:
            found = await self._of_backends(experiment)
        return {version: why for version, why in found.items() if why is not None}

    async def _of_subsets(
        self, experiment: Experiment, istio: IstioRoute
    ) -> Mapping[str, str | None]:
        namespace = experiment.namespace
        host = qualified(istio.host, namespace)
        rules = await self.api.list(GROUP, VERSION, namespace, "destinationrules")
        labels = {
            version: subset_labels(rules, host, namespace, subset)
            for version, subset in subsets(experiment.spec).items()
        }
        service = service_name(host, namespace)
        if service is not None:
            try:
                type_, selector = await self.api.service_backing(namespace, service)
            except NotFoundError:
                pass
            else:
                return {
                    version: await self._of_service(namespace, service, type_, selector, wanted)
                    for version, wanted in labels.items()
                }
        entries = await self.api.list(GROUP, VERSION, namespace, "serviceentries")
        return {v: _of_entry(entries, host, wanted) for v, wanted in labels.items()}

    async def _of_service(
        self, namespace: str, service: str, type_: str, selector: Labels, labels: Labels
    ) -> str | None:
        if type_ == "ExternalName":
            return None
        if not selector:
            return await self._of_slices(namespace, service)
        if any(selector.get(name, value) != value for name, value in labels.items()):
            return f"Service {service} selects no Pod with {_words(labels)}"
        wanted, seen = {**selector, **labels}, 0
        async for ready in self.api.pods(namespace, wanted):
            if ready:
                return None
            seen += 1
        if not seen:
            return f"Service {service} has no Pod with {_words(wanted)}"
        return f"none of {seen} Pods of Service {service} with {_words(wanted)} is ready"

    async def _of_slices(self, namespace: str, service: str) -> str | None:
        ready = await self.api.endpoints(namespace, service)
        if any(ready):
            return None
        if not ready:
            return f"Service {service} has no endpoints"
        return f"none of {len(ready)} endpoints of Service {service} is ready"

    async def _of_backends(self, experiment: Experiment) -> Mapping[str, str | None]:
        """Of an HTTPRoute: each version is a Service of its own, or the host of a ServiceEntry."""
        namespace, entries = experiment.namespace, None
        found: dict[str, str | None] = {}
        for arm in experiment.spec.traffic:
            service = arm.service or arm.model_version
            try:
                type_, _ = await self.api.service_backing(namespace, service)
            except NotFoundError:
                if entries is None:
                    entries = await self.api.list(GROUP, VERSION, namespace, "serviceentries")
                found[arm.model_version] = _of_entry(entries, service, {})
            else:
                external = type_ == "ExternalName"
                ready = None if external else await self._of_slices(namespace, service)
                found[arm.model_version] = ready
        return found


def _of_entry(entries: Sequence[Mapping[str, Any]], host: str, labels: Labels) -> str | None:
    if listed(entries, host, labels) is not False:
        return None
    which = f" with {_words(labels)}" if labels else ""
    return f"the ServiceEntry of {host} lists no endpoint{which}"
