from typing import Any

BOUNDS: tuple[int, ...]
"""Bytes: a size is counted at the first bound that it does not exceed, or at "+Inf"."""

class Sizes:
    """A histogram of sizes."""

    def add(self, size: int) -> None:
        """Count one of `size` bytes."""
    def snapshot(self) -> dict[str, Any]:
        """Everything counted: `buckets`, numbers by bound (not cumulative); `sum`, in bytes."""
