"""One process that serves: the app under uvicorn, until it is told to end."""

from __future__ import annotations

import gc
import socket
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import uvicorn

from service.ahead import Ahead
from service.app import Services, create_app
from service.lifecycle import Server
from service.peers import Peers
from service.settings import Settings
from service.supervisor import BEAT
from service.transports.connections import ConnectionLimits, Connections
from service.transports.protocol import Reader


def serve(
    settings: Settings,
    listener: socket.socket,
    folder: Path | None,
    pipe: Connection | None,
    ahead: Ahead,
    backlog: int,
) -> None:
    """Serve from this process, which may be one of several: those meet in a folder, and have a supervisor.

    Returns once what was under way has been answered.
    """

    def on_change() -> None:
        ahead.close()
        _settle_memory()

    app = create_app(settings, on_change=on_change, peers=Peers(folder), ahead=ahead.take)
    gc.enable()  # the server turned it off
    services: Services = app.state.services
    limits = ConnectionLimits(
        connections=settings.max_connections,
        header_bytes=settings.max_header_bytes,
        headers=settings.max_headers,
        header_timeout_s=settings.header_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )
    connections = Connections(limits, lambda problem: services.metrics.refused(problem.reason))
    config = uvicorn.Config(
        app,
        http=partial(Reader, connections),  # type: ignore[arg-type]  # any maker of protocols does
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=backlog,
        timeout_keep_alive=settings.keep_alive_s,
    )

    def beat() -> None:
        try:
            if pipe is not None:
                pipe.send_bytes(BEAT)
        except OSError:
            server.leave()  # without its supervisor it would be in nobody's hands

    server = Server(
        config,
        services,
        connections,
        delay_s=settings.shutdown_delay_s,
        drain_s=settings.drain_s,
        worker=pipe is not None,
        on_tick=beat,
    )
    server.run(sockets=[listener])


def _settle_memory() -> None:
    """Keep the garbage collector off what lives as long as the models do, and give back what those that left had.

    Looking through all that was imported and loaded takes it about 20 ms, which would come every few thousand
    requests; what a request makes is seldom in a cycle.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
