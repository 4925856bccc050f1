"""Where a server is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtest.errors import LoadTestError


@dataclass(frozen=True)
class Address:
    """Where a server is; ``base`` is what paths stand behind, without a slash at its end."""

    host: str
    port: int
    secure: bool
    base: str

    @property
    def name(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address(url: str) -> Address:
    """The address in a URL. Raises LoadTestError where that is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise LoadTestError(f"{url!r} is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise LoadTestError(f"{url!r} is no address such as http://127.0.0.1:8000")
    if parts.username is not None:
        raise LoadTestError("an address has no user name: keys go into --api-key")
    secure = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if secure else 80), secure, parts.path.rstrip("/"))
