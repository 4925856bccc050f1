"""The server that is asked: whether it may be, and what it says of its models."""

from __future__ import annotations

import ipaddress

import httpx

from loadtest.address import address
from loadtest.errors import LoadTestError
from loadtest.model import Model
from loadtest.record import BudgetCard, ModelCard
from service.client import Client, ClientError
from service.client import ModelCard as ServersCard

_TIMEOUT_S = 30.0
# What the server takes unless it is told otherwise, where it does not say.
_MOST_IMAGES = 64


def check_allowed(url: str, *, mine: bool) -> bool:
    """Whether the address is this machine's own, by itself. Raises LoadTestError for any other that is not ``mine``.

    A load test against a server of somebody else is an attack.
    """
    host = address(url).host
    local = is_loopback(host)
    if not (local or mine):
        raise LoadTestError(f"{host} is not this machine: a load test of it needs --i-own-this-server")
    return local


def is_loopback(host: str) -> bool:
    """Whether a name or number is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def models(url: str, api_key: str | None) -> tuple[Model, ...]:
    """The models that are served, each in its highest version, in the server's order.

    Raises LoadTestError where the server does not answer as this service does or serves none.
    """
    try:
        # With a transport of its own the client asks nobody else, whatever proxy the environment names.
        with Client(url, api_key=api_key, timeout_s=_TIMEOUT_S, transport=httpx.HTTPTransport()) as client:
            names = dict.fromkeys(model.name for model in client.models().models)
            found = tuple(_model(client.card(name)) for name in names)
    except ClientError as error:
        raise LoadTestError(str(error)) from error
    if not found:
        raise LoadTestError(f"{url} serves no model")
    return found


def most_images(url: str, api_key: str | None, model: str) -> int:
    """How many images a request may have, by the model's configuration as Triton's clients read it."""
    try:
        said = fetch(url, f"/v2/models/{model}/config", api_key)
        return max(1, int(said.json()["max_batch_size"]))
    except (LoadTestError, KeyError, TypeError, ValueError):
        return _MOST_IMAGES


def fetch(url: str, path: str, api_key: str | None = None) -> httpx.Response:
    """An answer of 200 to a GET, without proxies and redirects. Raises LoadTestError."""
    headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
    try:
        with httpx.Client(trust_env=False, follow_redirects=False, timeout=_TIMEOUT_S) as client:
            answer = client.get(url.rstrip("/") + path, headers=headers)
    except httpx.HTTPError as error:
        raise LoadTestError(f"no answer from {url}{path}: {error}") from error
    if answer.status_code != 200:
        raise LoadTestError(f"{url}{path} answers with status {answer.status_code}")
    return answer


def _model(card: ServersCard) -> Model:
    budgets = tuple(budget.timesteps for budget in card.budgets)
    if not budgets or card.input.channels not in (1, 3):
        raise LoadTestError(f"{card.name} is no model that pictures can be sent to")
    return Model(
        name=card.name,
        classes=tuple(card.classes),
        channels=card.input.channels,
        height=card.input.height,
        width=card.input.width,
        budgets=budgets,
        card=ModelCard(
            name=card.name,
            version=card.version,
            engine=card.engine,
            tgim=card.tgim,
            levels=card.levels,
            energy_profile="",
            budgets=tuple(
                BudgetCard(budget.timesteps, None if budget.accuracy is None else budget.accuracy.served)
                for budget in card.budgets
            ),
        ),
    )
