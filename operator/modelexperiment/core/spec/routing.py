"""Where the traffic is split, between whom, and who is a user."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from modelexperiment.core.fields import (
    HeaderName,
    LabelName,
    Model,
    ModelVersion,
    ObjectName,
    Rule,
    Url,
    exactly_one,
)

TWO_DECIMALS = Rule(
    # Rounded from below zero up, since CEL's int() cuts off towards zero: a negative
    # percent is another rule's business.
    cel="self.percent * 100.0 - double(int(self.percent * 100.0 + 100000.5) - 100000)"
    " < 0.000001 && "
    "double(int(self.percent * 100.0 + 100000.5) - 100000) - self.percent * 100.0"
    " < 0.000001",
    message="percent takes at most two decimals",
    holds=lambda part: abs(part.percent * 100 - round(part.percent * 100)) < 1e-6,
    field="percent",
    shown=lambda part: part.percent,
)
"""Of a model with the field `percent`: a hundredth of a percent is the smallest share."""


class Arm(Model):
    """One version of the model and its share of the traffic."""

    model_version: ModelVersion
    """The version's name: the value of the counters' version label, and the default subset."""
    percent: Annotated[float, Field(ge=0, le=100)]
    """Its share of the requests in percent, with up to two decimals."""
    subset: ModelVersion | None = None
    """The DestinationRule subset that serves it (Istio). Default: modelVersion."""
    service: ObjectName | None = None
    """The backend that serves it (Gateway API): a Service, or whatever the rule's other
    backends are. Default: modelVersion."""

    rules: ClassVar[tuple[Rule, ...]] = (TWO_DECIMALS,)


class IstioRoute(Model):
    """A named http route of a VirtualService. Its owner stays whoever wrote it."""

    virtual_service: ObjectName
    """The VirtualService, in the experiment's namespace. It must exist already."""
    http_route: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The name of the http route to split. May be left out where there is a single one."""
    host: Annotated[str, Field(min_length=1, max_length=253)]
    """The destination host that all versions share; each version is one of its subsets."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The destination's port number, where the host has several."""


class GatewayApiRoute(Model):
    """A rule of a Gateway API HTTPRoute."""

    http_route: ObjectName
    """The HTTPRoute, in the experiment's namespace. It must exist already."""
    rule: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The name of the rule to split. May be left out where there is a single one."""


class Route(Model):
    """Where the traffic is split."""

    istio: IstioRoute | None = None
    """An Istio VirtualService."""
    gateway_api: Annotated[GatewayApiRoute | None, Field(alias="gatewayAPI")] = None
    """A Gateway API HTTPRoute."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.istio) != has(self.gatewayAPI)",
            message="exactly one of istio, gatewayAPI must be set",
            holds=lambda route: (route.istio is None) != (route.gateway_api is None),
            shown=lambda route: "both" if route.istio else "none",
        ),
    )


class Probe(Model):
    """A few requests that prove what the proxy does with users. The model servers see them."""

    url: Url
    """What to GET through the proxy, on the split route; the operator's settings must allow it."""
    host: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """The Host header. Default: the URL's own."""


class Assignment(Model):
    """How a user is recognised, so that the same user always gets the same version."""

    header: HeaderName | None = None
    """The request header that names the user."""
    cookie: HeaderName | None = None
    """The cookie that names the user."""
    salt: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]*$", max_length=128)] | None = None
    """Another salt is another, independent draw. Default: <namespace>/<name>."""
    buckets: Annotated[int, Field(json_schema_extra={"enum": [0, 32, 64, 128]})] = 64
    """Hash buckets for the statistics: 0, 32, 64 or 128. A VirtualService's route stamps them on
    every request; an HTTPRoute has no room for that."""
    bucket_label: LabelName | None = None
    """The counters' label that the application copies x-experiment-bucket into."""
    probe: Probe | None = None
    """Where to prove the assignment. Left out: nothing is asked, and the condition says so."""

    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("header", "cookie"),
        Rule(
            cel="self.buckets in [0, 32, 64, 128]",
            message="buckets must be 0, 32, 64 or 128",
            holds=lambda assignment: assignment.buckets in (0, 32, 64, 128),
            field="buckets",
            shown=lambda assignment: assignment.buckets,
        ),
    )
