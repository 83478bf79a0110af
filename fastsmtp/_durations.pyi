from typing import Any

BOUNDS: tuple[float, ...]
"""Seconds: a duration is counted at the first bound that it does not exceed, or at "+Inf"."""

def now() -> float:
    """When something begins: seconds of the monotonic clock, for `Durations.since`."""

class Durations:
    """A histogram of durations."""

    def since(self, begun: float) -> None:
        """Count what began at `begun` and ends now."""
    def snapshot(self) -> dict[str, Any]:
        """Everything counted: `buckets`, numbers by bound (not cumulative); `sum`, in seconds."""
