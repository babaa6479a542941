"""Does the statistics keep its promises? Simulations of minutes, with fixed seeds.

Run ``python -m calibration``. Every study plays many experiments whose truth is known through the
code that judges real ones, with a look at every poll, and compares what came out with a bar. The
table goes to docs/calibration.md.
"""
