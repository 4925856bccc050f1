"""What the server counted meanwhile, by its `/metrics` before and after, held against what the client counted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from loadtest.errors import LoadTestError
from loadtest.record import Reconciled
from loadtest.target import fetch

_REQUESTS, _IMAGES = "lmht_requests", "lmht_images"
# A server notices only some time later that a client went away.
_SETTLE_S, _PAUSE_S = 2.0, 0.05


@dataclass(frozen=True)
class Counts:
    """Requests by model and status code, images run by model and budget, since the server's start."""

    requests: Mapping[tuple[str, int], int]
    images: Mapping[tuple[str, int], int]

    def since(self, before: Counts) -> Counts:
        """By how much they grew. Raises LoadTestError where a count went back: the server was started anew."""
        grown = []
        for now, then in ((self.requests, before.requests), (self.images, before.images)):
            more = {key: count - then.get(key, 0) for key, count in now.items()}
            if any(count < 0 for count in more.values()) or then.keys() - now.keys():
                raise LoadTestError("the server's counts went back: it, or a process of it, was started anew meanwhile")
            grown.append({key: count for key, count in more.items() if count})
        return Counts(*grown)


def scrape(url: str) -> Counts:
    """The counts now. Raises LoadTestError where the server has none."""
    text = fetch(url, "/metrics").text
    requests: Counter[tuple[str, int]] = Counter()
    images: Counter[tuple[str, int]] = Counter()
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{_REQUESTS}_total":
                    requests[sample.labels["model"], int(sample.labels["code"])] += int(sample.value)
                elif sample.name == f"{_IMAGES}_total":
                    images[sample.labels["model"], int(sample.labels["timesteps"])] += int(sample.value)
    except (ValueError, KeyError) as error:
        raise LoadTestError(f"{url}/metrics is nothing that this service says: {error}") from error
    if not requests:
        raise LoadTestError(f"{url}/metrics has no {_REQUESTS}_total: it is not this service's")
    return Counts(requests, images)


def reconcile(client: Counts, server: Counts, models: Iterable[str]) -> tuple[Reconciled, ...]:
    """Each count that either has of these models, beside the other's.

    Requests that the client lost stand beside those that the server gave up as it thought the client gone, 499.
    """
    wanted = set(models)
    rows = []
    for what, ours, theirs in (
        ("requests", client.requests, server.requests),
        ("images at T =", client.images, server.images),
    ):
        for model, label in sorted(ours.keys() | {key for key in theirs if key[0] in wanted}):
            name = f"{model}, {what} {label}" if what != "requests" else f"{model}, {_in_words(label)}"
            rows.append(Reconciled(name, ours.get((model, label), 0), theirs.get((model, label), 0)))
    return tuple(rows)


def settled(
    url: str,
    before: Counts,
    client: Counts,
    models: Iterable[str],
    pause: Callable[[float], object] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> tuple[Reconciled, ...]:
    """The counts beside each other once they agree, or after a while where they do not. Raises LoadTestError."""
    wanted = tuple(models)
    until = now() + _SETTLE_S
    while True:
        rows = reconcile(client, scrape(url).since(before), wanted)
        if not any(row.difference for row in rows) or now() > until:
            return rows
        pause(_PAUSE_S)


def _in_words(code: int) -> str:
    return "requests without an answer (499)" if code == 499 else f"requests answered {code}"
