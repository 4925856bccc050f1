"""Which requests run next, together, and at which budget. Knows nothing of HTTP, and models only by their key.

    `work`        requests and batches
    `costs`       what a batch takes: a line through what batches took, for each model and budget
    `handling`    what the event loop does for an image beside that: reading, decoding, answering
    `queue`       who waits, and whose turn it is: fair among lanes, in seconds of the engine
    `policy`      which requests make up the next batch, and what budget those get that left it open
    `forecast`    how long what waits will take
    `load`        how much is arriving
    `admission`   who is taken into the queue, and when to come again otherwise
    `runner`      runs a batch in a thread
    `scheduler`   all of it on an event loop: futures and timers

All but the last two are plain objects that are told the time. The last takes its clock and its runner as arguments,
so that a simulation runs the very code that serves (`service.simulation`). Everything but the engine's own work happens
on the event loop, so nothing here needs a lock.
"""

from service.scheduler.admission import QueueFull, Refused, TooLate
from service.scheduler.scheduler import Closed, DeadlinePassed, Limits, Scheduler, Stalled
from service.scheduler.work import PRIORITIES, REASONS, BatchResult, Priority, Reason

__all__ = [
    "PRIORITIES",
    "REASONS",
    "BatchResult",
    "Closed",
    "DeadlinePassed",
    "Limits",
    "Priority",
    "QueueFull",
    "Reason",
    "Refused",
    "Scheduler",
    "Stalled",
    "TooLate",
]
