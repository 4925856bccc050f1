"""What keeps a load test from being run."""

from __future__ import annotations


class LoadTestError(Exception):
    """The load test cannot be run as it was asked for; the text says why, in words for whoever asked."""
