"""What is told of each request beside the metrics: a line in the log, a trace. Knows no HTTP beyond statuses.

`trace_context`  the headers of W3C Trace Context
`outcome`        what became of a request, as plain data
`request_log`    a line of the log for some requests
`tracing`        spans by OpenTelemetry, of the extra "otel"; imported only where it is switched on
`observer`       which of these a request gets
"""

from service.observing.observer import Observation, Observer
from service.observing.outcome import Asked, Outcome

__all__ = ["Asked", "Observation", "Observer", "Outcome"]
