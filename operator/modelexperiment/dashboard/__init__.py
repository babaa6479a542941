"""A read-only web page of all experiments, served by the operator or by the command `dashboard`.

A watch keeps a board of what a reader sees of each experiment; the pages are written from that
board, and from nothing else, so that no reader ever costs the API server or a poll anything. Only
an experiment's own page asks the API server, for the one object that it shows.
"""

from __future__ import annotations
