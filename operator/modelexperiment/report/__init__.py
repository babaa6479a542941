"""The report: one HTML page of an experiment, from its spec and status alone.

It needs `pip install modelexperiment[report]` (matplotlib draws, Jinja2 writes). The page holds
everything that it shows, and loads nothing.
"""

from __future__ import annotations

from modelexperiment.report.page import page as page
