"""`python -m modelexperiment`."""

import sys

from modelexperiment.cli import main

sys.exit(main())
