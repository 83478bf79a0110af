"""Speed and CPU of fastsmtp beside other servers: `make bench`; README.md is the method."""

from pathlib import Path

RESULTS = Path(__file__).with_name("results")
"""Where reports, their figures and pictures are kept."""
