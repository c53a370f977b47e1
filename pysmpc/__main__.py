"""`python -m pysmpc`: the same as the command `pysmpc`."""

import sys

from pysmpc.cli import main

sys.exit(main())
