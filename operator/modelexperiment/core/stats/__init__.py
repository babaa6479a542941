"""Statistics that stay valid however often anybody looks.

Start with `Comparison` (one metric, a champion and a challenger), `GuardrailTest` (is a limit
broken?), `SampleRatio` (is the split the configured one?) and `sample_size` (how long will it
take?). All of it is pure: numbers in, numbers out, and states that are small JSON objects. The
modules, from the ground up:

- `model`: increments, polls, settings, results
- `stratified`: the effect, poll by poll; `clusters`: its variance when users are the unit
- `confidence_sequence`, `e_process`, `horizon`: the engines
- `design`, `looks`, `evidence`: what settings mean, what a verdict rests on, what a poll changes
- `comparison`: the one to use
- `sample_ratio`, `guardrails` (with `limits`, `threshold`), `planning`, `correction`
- `proportion`: a single share with its interval; `divergence`: two histograms
- `segments`, `novelty`: reported beside the verdict; `simulation`: how a test would behave
"""

from modelexperiment.core.stats.comparison import Comparison
from modelexperiment.core.stats.correction import bonferroni, holm
from modelexperiment.core.stats.divergence import bins_of, jensen_shannon, stability_index
from modelexperiment.core.stats.guardrails import GuardrailTest
from modelexperiment.core.stats.limits import Limit
from modelexperiment.core.stats.model import (
    Alternative,
    Estimate,
    Goal,
    Increment,
    Interval,
    Kind,
    Margin,
    Method,
    Poll,
    Result,
    Settings,
    Unit,
)
from modelexperiment.core.stats.novelty import Drift, Novelty
from modelexperiment.core.stats.planning import (
    SampleSize,
    eta,
    multiplier,
    pooled_sample_size,
    sample_size,
    sample_variance,
)
from modelexperiment.core.stats.proportion import mixture_log_evidence, proportion_interval
from modelexperiment.core.stats.sample_ratio import SampleRatio
from modelexperiment.core.stats.segments import Heterogeneity, SegmentReport, report_segments
from modelexperiment.core.stats.simulation import Simulation, Traffic, Truth, simulate

__all__ = [
    "Alternative",
    "Comparison",
    "Drift",
    "Estimate",
    "Goal",
    "GuardrailTest",
    "Heterogeneity",
    "Increment",
    "Interval",
    "Kind",
    "Limit",
    "Margin",
    "Method",
    "Novelty",
    "Poll",
    "Result",
    "SampleRatio",
    "SampleSize",
    "SegmentReport",
    "Settings",
    "Simulation",
    "Traffic",
    "Truth",
    "Unit",
    "bins_of",
    "bonferroni",
    "eta",
    "holm",
    "jensen_shannon",
    "mixture_log_evidence",
    "multiplier",
    "pooled_sample_size",
    "proportion_interval",
    "report_segments",
    "sample_size",
    "sample_variance",
    "simulate",
    "stability_index",
]
