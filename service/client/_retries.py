"""How often a call is repeated, and how long after a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

_MOST_DOUBLINGS = 30


@dataclass(frozen=True)
class Retries:
    """When a call is repeated: after 429 and 503, and where the connection failed before an answer.

    The server's ``Retry-After`` says how long to wait. Without it, the wait is random between nothing and a bound that
    doubles with each failure, so that clients that failed together do not come back together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter").

    Args:
        attempts: most requests of one call, the first included.
        first_backoff_s: the bound after the first failure, in seconds.
        longest_backoff_s: what the bound does not exceed, in seconds.

    Raises ValueError for no attempts or a negative time.
    """

    attempts: int = 4
    first_backoff_s: float = 0.1
    longest_backoff_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not (self.first_backoff_s >= 0 and self.longest_backoff_s >= 0):
            raise ValueError(f"no way to repeat a call: {self}")

    def backoff_s(self, failures: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds to wait after so many failures; ``uniform`` draws from between two numbers."""
        doubled = self.first_backoff_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
        return uniform(0.0, min(self.longest_backoff_s, doubled))


DEFAULT = Retries()
NO_RETRIES = Retries(attempts=1)


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds to wait by ``Retry-After``, in either of its forms (RFC 9110, 10.2.3); None where it says nothing.

    A date is read against the answer's own ``Date``, since the two machines' clocks may differ, and else against
    ``now_s``, in Unix seconds.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    then_s = _unix_s(text)
    if then_s is None:
        return None
    sent_s = _unix_s(headers.get("date", ""))
    return max(0.0, then_s - (now_s if sent_s is None else sent_s))


def _unix_s(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    # HTTP's dates are in GMT, whether they say so or not.
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()
