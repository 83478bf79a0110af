"""`python -m tests.hostile [--short] [WORD …]`: attacks whose names have a word, or all; a table.

The exit status is 1 where a bound did not hold. SECONDS (30) is how long those attacks last that
end when they are told to.
"""

import os
import sys

from tests.hostile.arena import Result
from tests.hostile.attacks import ATTACKS, short, whole
from tests.support import rabbitmq
from tests.support.resident import MB

HEAD = (
    "| attack | reported before | peak MB (bound), after | CPU of a step; NOOP waited "
    "| others: accepted (replies); p50, p99, longest | the attackers heard | broken |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def row(result: Result) -> str:
    """One line of the table."""
    seen = result.seen
    killed = " and killed" if result.killed else ""
    replies = ", ".join(f"{number} x {code}" for code, number in sorted(seen.codes.items()))
    waits = ", ".join(f"{seen.wait(share) * 1000:.0f}" for share in (0.5, 0.99, 1))
    cells = [
        result.attack.name,
        result.attack.seen or "-",
        f"{result.peak // MB}{killed} ({result.bound // MB}), {result.after // MB}",
        f"{seen.longest_step * 1000:.0f}; {seen.longest_wait * 1000:.0f} ms",
        f"{seen.accepted:.1%} of {seen.sent} ({replies}); {waits} ms",
        result.heard,
        ", ".join(result.complaints) or "none",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--short"]
    chosen = [each for each in ATTACKS if not words or any(word in each.name for word in words)]
    seconds = float(os.environ.get("SECONDS") or 30)
    broken = 0
    broker: rabbitmq.Broker | None = None
    print(HEAD, flush=True)
    try:
        for attack in chosen:
            if attack.broker and broker is None:
                broker = rabbitmq.Broker()
                broker.start()
            if "--short" in sys.argv:
                result = short(attack, broker)
            else:
                result = whole(attack, broker, seconds)
            broken += bool(result.complaints)
            print(row(result), flush=True)
    finally:
        if broker is not None:
            broker.close()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
