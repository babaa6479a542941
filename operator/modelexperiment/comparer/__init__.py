"""Compares what a shadow predicts with what was answered: pairs of one request's predictions.

    model servers -- POST /v1/predictions --> parse --> pair by (model, request id) --> count
                                                              (pure)              /metrics

A process of its own (`modelexperiment compare`), which needs no Kubernetes. `predictions.py` reads
what is posted, `pairing.py` finds pairs, `agreement.py` says whether two predictions agree,
`versions.py` bounds what is known, `series.py` counts; `service.py` serves, and `stream.py` shares
the work among several processes through Redis. `middleware.py` is for the model servers.
"""
