"""`python -m rheobase`, and `torchrun ... -m rheobase`: the command line."""

import sys

from rheobase.cli import main

sys.exit(main())
