"""`python -m fastsmtp` is the command `fastsmtp`."""

import sys

from fastsmtp.process.cli import main

sys.exit(main())
