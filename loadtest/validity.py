"""Whether a run's figures are the server's, or those of a client that could not keep up.

Latency counts from when a request was to be sent, so a late client never makes a figure look better; it makes it its
own. That is said where lateness is a part of the latency that matters, and not where it is lost in it.
"""

from __future__ import annotations

import numpy as np

from loadtest.plan import Closed, Plan
from loadtest.processes import Driven
from loadtest.samples import CODES, Floats

# Share of the latency that may be the client's own lateness, and what is too short to matter: a timer's accuracy.
_SHARE = 0.1
_SHORT_MEDIAN_S, _SHORT_TAIL_S = 0.0002, 0.001
# Without any answers there is no latency to compare with.
_LATE_ALONE_S = 0.1
# A process that is busier than this has a queue of its own, whether it is late with sending or not.
_BUSY = 0.95
# Of what was to be sent by the end, this share must have been.
_SENT = 0.99


def reasons(plan: Plan, driven: Driven) -> tuple[str, ...]:
    """Why the figures of a run are the client's; none where they are the server's."""
    samples = driven.samples
    counted = samples.due >= plan.warmup_s
    if not counted.any():
        return ()
    found = []
    closed = isinstance(plan.load, Closed)
    late = driven.beats if closed else (samples.handed - samples.due)[counted]
    what = "came to run" if closed else "came to send"
    answered = counted & (samples.outcome == CODES["answered"])
    latency = (samples.ended - samples.due)[answered]
    for share, name, short in ((0.5, "median", _SHORT_MEDIAN_S), (0.99, "p99", _SHORT_TAIL_S)):
        lateness, allowed = _quantile(late, share), _allowed(latency, share, short)
        if lateness > allowed:
            found.append(
                f"the client {what} {1000 * lateness:.3g} ms late ({name}), which is more than "
                f"{1000 * allowed:.3g} ms, {100 * _SHARE:g} % of the latency"
                if len(latency)
                else f"the client {what} {1000 * lateness:.3g} ms late ({name})"
            )
    if not closed:
        in_time = (samples.handed[counted] <= driven.until_s).mean()
        if in_time < _SENT:
            found.append(f"the client sent {100 * in_time:.3g} % of what it was to send by the end")
    if driven.cpu > _BUSY:
        found.append(f"a client process used {100 * driven.cpu:.0f} % of a core")
    return tuple(found)


def _allowed(latency: Floats, share: float, short_s: float) -> float:
    return max(short_s, _SHARE * _quantile(latency, share)) if len(latency) else _LATE_ALONE_S


def _quantile(values: Floats, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 0.0
