"""How a metric is shown: declared beside what counts it; read to show and to add up snapshots."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exposed:
    """One metric as Prometheus sees it."""

    kind: str
    """counter or histogram: stays true of a worker that has ended. gauge: true of one that runs."""

    name: str  # of a counter: without _total
    help: str
    labels: tuple[str, ...] = ()
    of_running: bool = False  # a counter that ends with its process
    combined: str = "sum"  # of several processes: sum, min or max

    @property
    def ends(self) -> bool:
        """What a process told is no longer true when it has ended."""
        return self.kind == "gauge" or self.of_running

    @property
    def full_name(self) -> str:
        """As it is shown, and written in documentation."""
        return f"{self.name}_total" if self.kind == "counter" else self.name
