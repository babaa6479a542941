"""Runs A/B tests between versions of a model: gather, decide, apply."""
