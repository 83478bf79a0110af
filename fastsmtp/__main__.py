"""`python -m fastsmtp` is the command `fastsmtp`."""

import sys

from fastsmtp.process.entry import main

sys.exit(main())
