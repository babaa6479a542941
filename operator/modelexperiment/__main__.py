"""`python -m modelexperiment`."""

import sys

from modelexperiment.cli import main

# Processes that `replay` starts import this module, too.
if __name__ == "__main__":
    sys.exit(main())
