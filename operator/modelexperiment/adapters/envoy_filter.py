"""The EnvoyFilter that makes Envoy choose by the user, and where it is to be put.

Routes of a proxy are not unique by name, so each patch names the port and the virtual host as
well. MERGE keeps the clusters and their weights, and adds how to choose between them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelexperiment.adapters.kubernetes import Api, NotFoundError
from modelexperiment.adapters.segments import MIRROR_TO
from modelexperiment.adapters.segments import VERSION as STAMP
from modelexperiment.core import crd
from modelexperiment.core.manifest import Experiment
from modelexperiment.core.snapshot import Problem
from modelexperiment.ports import ConflictError

GROUP, VERSION, PLURAL = "networking.istio.io", "v1alpha3", "envoyfilters"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "modelexperiment"
EXPERIMENT = f"{crd.GROUP}/experiment"
ATTEMPTS = 5
_LONGEST = 240

GATEWAY, SIDECAR = "GATEWAY", "SIDECAR_OUTBOUND"

Manifest = dict[str, Any]


class Place(NamedTuple):
    """A route in the configuration of some proxies."""

    context: str
    """GATEWAY or SIDECAR_OUTBOUND."""
    port: int
    virtual_host: str
    """As Envoy names it: HOST:PORT."""
    route: str
    """Envoy's name of the route."""


def name_of(experiment: Experiment) -> str:
    """The EnvoyFilter's name: unique also among the experiments of all namespaces."""
    whole = f"{experiment.namespace}/{experiment.name}"
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{MANAGER}-{experiment.namespace}-{experiment.name}"[:_LONGEST].rstrip("-.") + (
        f"-{digest}"
    )


def hash_policy(experiment: Experiment) -> Manifest:
    """How Envoy finds the user: it hashes SALT:USER.

    A policy for cookies can't salt what it hashes, so the cookie is cut out of the header. Where
    the header has other cookies only, all of it is hashed: such a request is no user's, and comes
    to the same version as long as these cookies stay.
    """
    assignment = experiment.spec.assignment
    assert assignment is not None
    if assignment.header:
        name, regex = assignment.header, "^(.*)$"
    else:
        name, regex = "cookie", rf"^(?:.*;\s*)?{re.escape(assignment.cookie or '')}=([^;]*).*$"
    rewrite = {"pattern": {"regex": regex}, "substitution": f"{experiment.salt}:\\1"}
    return {"header": {"header_name": name, "regex_rewrite": rewrite}}


def mirror_policy(experiment: Experiment) -> Manifest:
    """How Envoy copies: to the cluster that the route's entry of the user names, if it does.

    What the entry stamps is the version that answers; the copy is stamped as the shadow's.
    """
    shadow = experiment.spec.shadow
    assert shadow is not None
    stamp = {
        "header": {"key": STAMP, "value": shadow.model_version},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
    mutations = [{"remove": MIRROR_TO}, {"append": stamp}]
    return {"cluster_header": MIRROR_TO, "request_headers_mutations": mutations}


def build(
    experiment: Experiment, namespace: str, places: Iterable[Place], *, copies: bool = False
) -> Manifest:
    """The EnvoyFilter of an experiment for all places of its route.

    `copies` lets it copy the requests of the entries that say so. In the experiment's own namespace
    the experiment owns it, and the cluster collects it.
    """
    route: Manifest = {
        "hash_policy": [hash_policy(experiment)],
        "weighted_clusters": {"use_hash_policy": True},
    }
    if copies:
        route["request_mirror_policies"] = [mirror_policy(experiment)]
    value = {"route": route}
    metadata: Manifest = {
        "name": name_of(experiment),
        "namespace": namespace,
        "labels": {MANAGED_BY: MANAGER},
        "annotations": {EXPERIMENT: f"{experiment.namespace}/{experiment.name}"},
    }
    if namespace == experiment.namespace:
        owner = {
            "apiVersion": f"{crd.GROUP}/{crd.VERSION}",
            "kind": crd.KIND,
            "name": experiment.name,
            "uid": experiment.uid,
            "controller": True,
        }
        metadata["ownerReferences"] = [owner]
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "EnvoyFilter",
        "metadata": metadata,
        "spec": {"configPatches": [_patch(place, value) for place in sorted(set(places))]},
    }


def _patch(place: Place, value: Manifest) -> Manifest:
    virtual_host = {"name": place.virtual_host, "route": {"name": place.route}}
    return {
        "applyTo": "HTTP_ROUTE",
        "match": {
            "context": place.context,
            "routeConfiguration": {"portNumber": place.port, "vhost": virtual_host},
        },
        "patch": {"operation": "MERGE", "value": value},
    }


def says(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an EnvoyFilter is the wanted one; what others add to its metadata is theirs."""
    one, other = found.get("metadata", {}), wanted["metadata"]
    return bool(
        found.get("spec") == wanted["spec"]
        and one.get("ownerReferences") == other.get("ownerReferences")
        and all(
            (one.get(part) or {}).get(key) == value
            for part in ("labels", "annotations")
            for key, value in other[part].items()
        )
    )


@dataclass(frozen=True)
class EnvoyFilters:
    """The EnvoyFilters of all experiments in the API server."""

    api: Api
    namespace: str = ""
    """Where they stand; "" for each experiment's own namespace."""

    def where(self, experiment: Experiment) -> str:
        """The namespace of an experiment's EnvoyFilter."""
        return self.namespace or experiment.namespace

    async def seen(self, experiment: Experiment) -> Mapping[str, Any] | None:
        """The experiment's EnvoyFilter as it is; None where there is none."""
        try:
            return await self.api.get(
                GROUP, VERSION, self.where(experiment), PLURAL, name_of(experiment)
            )
        except NotFoundError:
            return None

    def wanted(
        self, experiment: Experiment, places: Iterable[Place], *, copies: bool = False
    ) -> Manifest:
        """The EnvoyFilter that the experiment should have."""
        return build(experiment, self.where(experiment), places, copies=copies)

    async def put(
        self, experiment: Experiment, places: Iterable[Place], *, copies: bool = False
    ) -> Problem | None:
        """Make the EnvoyFilter what it should be; None once it is."""
        wanted = self.wanted(experiment, places, copies=copies)
        namespace, name = self.where(experiment), name_of(experiment)
        for _ in range(ATTEMPTS):
            found = await self.seen(experiment)
            if found is not None and says(found, wanted):
                return None
            try:
                if found is None:
                    await self.api.create(GROUP, VERSION, namespace, PLURAL, wanted)
                else:
                    patch = _replacing(found, wanted)
                    await self.api.json_patch(GROUP, VERSION, namespace, PLURAL, name, patch)
            except NotFoundError:
                if found is None:
                    return Problem(
                        "NoEnvoyFilters",
                        "spec.assignment: the cluster has no EnvoyFilters (Istio), which keep "
                        f"users on their version, or no namespace {namespace}",
                    )
            except ConflictError:
                continue
        return Problem(
            "WriteConflict",
            f"EnvoyFilter {namespace}/{name} changed {ATTEMPTS} times while it was written: "
            "somebody else writes it all the time; it is tried again",
            bad_input=False,
        )

    async def remove(self, experiment: Experiment) -> None:
        """Delete the EnvoyFilter, if there is one."""
        namespace, name = self.where(experiment), name_of(experiment)
        try:
            await self.api.delete(GROUP, VERSION, namespace, PLURAL, name)
        except NotFoundError:
            return


def _replacing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[Manifest]:
    """The JSON patch from what was seen to what is wanted."""
    metadata = found["metadata"]
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "add", "path": "/spec", "value": wanted["spec"]},
    ]
    for part in ("labels", "annotations"):
        merged = {**(metadata.get(part) or {}), **wanted["metadata"][part]}
        operations.append({"op": "add", "path": f"/metadata/{part}", "value": merged})
    owners = wanted["metadata"].get("ownerReferences", [])
    operations.append({"op": "add", "path": "/metadata/ownerReferences", "value": owners})
    return operations
