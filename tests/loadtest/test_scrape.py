"""The server's counts beside the client's."""

from __future__ import annotations

import itertools

import pytest

from loadtest.errors import LoadTestError
from loadtest.record import Reconciled
from loadtest.scrape import Counts, reconcile, scrape, settled
from tests.loadtest.stub import response, serving


def metrics(requests: dict[tuple[str, int], int], images: dict[tuple[str, int], int] | None = None) -> bytes:
    lines = ["# TYPE lmht_requests_total counter"]
    lines += [f'lmht_requests_total{{model="{m}",code="{c}"}} {n}.0' for (m, c), n in requests.items()]
    lines += ["# TYPE lmht_images_total counter"]
    lines += [f'lmht_images_total{{model="{m}",timesteps="{t}"}} {n}.0' for (m, t), n in (images or {}).items()]
    lines += ["# TYPE lmht_queued_images gauge", "lmht_queued_images 3.0", ""]
    return response(200, "\n".join(lines).encode())


def test_counts_are_read_by_model_and_code_or_budget() -> None:
    page = metrics({("a", 200): 5, ("a", 429): 1}, {("a", 1): 7})
    with serving(lambda _: page) as stub:
        assert scrape(stub.url) == Counts({("a", 200): 5, ("a", 429): 1}, {("a", 1): 7})
        assert stub.asked[0].path == "/metrics"


@pytest.mark.parametrize(
    "page",
    [response(404), response(200, b"nothing of it 1\n"), response(200, b"{}"), response(302, b"", "location: /x")],
)
def test_a_server_without_such_counts_is_said_to_have_none(page: bytes) -> None:
    with serving(lambda _: page) as stub, pytest.raises(LoadTestError):
        scrape(stub.url)


def test_counts_that_went_back_are_those_of_another_process() -> None:
    before, after = Counts({("a", 200): 5}, {}), Counts({("a", 200): 3}, {})
    with pytest.raises(LoadTestError, match="started anew"):
        after.since(before)
    with pytest.raises(LoadTestError, match="started anew"):
        Counts({}, {}).since(before)
    assert Counts({("a", 200): 9, ("b", 200): 0}, {}).since(before) == Counts({("a", 200): 4}, {})


def test_each_count_stands_beside_the_others() -> None:
    client = Counts({("a", 200): 5, ("a", 499): 1}, {("a", 4): 5})
    server = Counts({("a", 200): 6, ("b", 200): 9}, {("a", 4): 5, ("a", 2): 1})
    rows = {row.what: row for row in reconcile(client, server, ["a"])}
    assert rows["a, requests answered 200"].difference == 1
    assert rows["a, requests without an answer (499)"].difference == -1
    assert rows["a, images at T = 4"].difference == 0
    assert rows["a, images at T = 2"] == Reconciled("a, images at T = 2", 0, 1)
    assert len(rows) == 4, "what others asked of another model is not ours"


def test_it_is_waited_for_until_the_counts_agree_and_not_for_ever() -> None:
    pages = iter([metrics({("a", 200): n}) for n in (3, 4, 5)])
    with serving(lambda _: next(pages)) as stub:
        (row,) = settled(stub.url, Counts({}, {}), Counts({("a", 200): 5}, {}), ["a"], pause=lambda s: None)
        assert row.difference == 0
        assert len(stub.asked) == 3
    times = itertools.count()
    with serving(lambda _: metrics({("a", 200): 4})) as stub:
        (row,) = settled(
            stub.url, Counts({}, {}), Counts({("a", 200): 5}, {}), ["a"], lambda s: None, lambda: float(next(times))
        )
        assert row.difference == -1
