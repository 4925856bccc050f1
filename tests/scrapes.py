"""What a scrape of `/metrics` says."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, frozenset[tuple[str, str]]]


def value(text: str, name: str, **labels: str) -> float | None:
    """The sample of this name and exactly these labels; None where there is none."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def counted(text: str) -> dict[Sample, float]:
    """Every sample that may only rise: of counters, and all but the bounds of histograms."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def fallen(before: str, after: str) -> list[str]:
    """What counts less in the later of two scrapes, or is no longer there; by as little as a rounding error."""
    earlier, later = counted(before), counted(after)
    assert earlier
    return [
        f"{name} {dict(labels)}: {was!r}, then {later.get((name, labels))!r}"
        for (name, labels), was in earlier.items()
        if later.get((name, labels), -1.0) < was
    ]
