"""The demo: two real models of flight delays in an A/B test on real parts."""

import os

# One prediction is a tenth of a millisecond of arithmetic. OpenMP's threads, which wait for one
# another by spinning, would make it 25 ms and more on a busy machine. Read when scikit-learn loads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
