from typing import Any

BOUNDS: tuple[float, ...]
"""Seconds: a duration is counted at the first bound that it does not exceed, or at "+Inf"."""

def now() -> float:
    """When something begins: seconds of the monotonic clock, for `Durations.since`."""

class Durations:
    """A histogram of durations."""

    @property
    def last(self) -> float:
        """When the last duration ended, in seconds of the monotonic clock; 0 before the first."""

    def since(self, begun: float) -> None:
        """Count what began at `begun` and ends now."""
    def snapshot(self) -> dict[str, Any]:
        """Everything counted: `buckets`, numbers by bound (not cumulative); `sum`, in seconds."""
