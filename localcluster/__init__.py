"""The real parts of a Kubernetes platform on one machine, without containers or root.

kube-apiserver, etcd, kube-controller-manager, istiod, Prometheus, Helm and Envoy are built once
(``python -m localcluster build``), then started and stopped in seconds for the demo and the tests:

>>> with Cluster.start(Path("/tmp/cluster")) as cluster:  # doctest: +SKIP
...     cluster.kubectl("get", "namespaces")
"""

from .cluster import Cluster
from .errors import ClusterError
from .gateway import Gateway

__all__ = ["Cluster", "ClusterError", "Gateway"]
