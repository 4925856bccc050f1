"""The log of a server process, for programs, in a pipe that nobody reads before the end."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import httpx

from tests import tiny
from tests.live import running
from tests.serving import PATIENCE_S

CLASSIFY, MANY = "/v1/models/tiny/classify", 400
SECRET = "a-private-matter"


def test_every_line_is_an_object_and_no_request_waits_for_a_reader(repository: Path) -> None:
    variables = {"LMHT_LOG_FORMAT": "json", "LMHT_LOG_REQUESTS": "1", "LMHT_ADMIN_TOKEN": f"token-{SECRET}"}
    with running(repository, **variables) as process, httpx.Client(base_url=process.url, timeout=PATIENCE_S) as client:
        numbers = {"instances": tiny.images(1).tolist()}
        # Each line has some 500 bytes, and a pipe has room for 65,536.
        for number in range(MANY):
            assert client.post(f"{CLASSIFY}?id=n{number}", json=numbers).status_code == 200
        client.get("/v1/models/a%0AINFO:%20forged%1b")
        client.post(CLASSIFY, content=SECRET, headers={"content-type": "image/png", "authorization": SECRET})
        headers = {"authorization": f"Bearer token-{SECRET}"}
        assert client.post("/v2/repository/models/tiny/load", headers=headers).status_code == 200

    assert len(process.log) > 2 * 65_536
    lines = [json.loads(line) for line in process.log.split("\n") if line]
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert {"level", "logger", "process", "message"} <= line.keys()
    assert SECRET not in process.log

    requests = [line for line in lines if line["logger"] == "lmht.requests" and line["path"] == CLASSIFY]
    assert [line["request_id"] for line in requests[:-1]] == [f"n{number}" for number in range(MANY)]
    assert (requests[-1]["status"], requests[-1]["reason"]) == (400, "unreadable_picture")
    assert any(line.get("path") == "/v1/models/a\nINFO: forged\x1b" for line in lines)
    assert {line["logger"] for line in lines} >= {"lmht", "uvicorn.error", "lmht.requests"}
    (ready,) = [line for line in lines if "compile_s" in line]
    assert (ready["model"], ready["version"]) == ("tiny", "1")
    assert min(ready["read_s"], ready["compile_s"], ready["warm_up_s"]) >= 0
