"""Who may do what: keys for classifying, a token for changing what is served.

Both come as ``Authorization: Bearer …``; a key as ``X-API-Key`` too.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable

from starlette.types import Scope

from service import keys
from service.problems import Forbidden, Unauthorized
from service.settings import Settings

Headers = Iterable[tuple[bytes, bytes]]
# What proxies add: the address that is seen then is not the client's.
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip"})


class Access:
    """Decides by a request's headers and address. The settings say what is asked for."""

    def __init__(self, settings: Settings) -> None:
        self._keys = keys.read(settings.api_keys_file) if settings.api_keys_file else ()
        self._token = settings.admin_token.get_secret_value().encode() if settings.admin_token else None

    def may_classify(self, headers: Headers) -> str | None:
        """Whose key a request has, None where there are no keys. Raises Unauthorized without one of them."""
        if not self._keys:
            return None
        owner = keys.owner(self._keys, _credential(headers, b"x-api-key"))
        if owner is None:
            raise Unauthorized("a valid API key is needed, as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        return owner

    def may_change(self, scope: Scope) -> None:
        """Raises Unauthorized without the token, where there is one, and else Forbidden but from this machine."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if self._token is not None:
            if not hmac.compare_digest(_credential(headers), self._token):
                raise Unauthorized("changing what is served needs the admin token, as 'Authorization: Bearer TOKEN'")
            return
        names = {name for name, _ in headers}
        # A browser names the page that asks: any page that somebody opens on this machine could.
        if not _is_loopback(scope) or names & _FORWARDED or b"origin" in names:
            raise Forbidden(
                "without an admin token (LMHT_ADMIN_TOKEN) what is served can only be changed from the server's own "
                "machine, and not from a browser"
            )


def _credential(headers: Headers, own_header: bytes | None = None) -> bytes:
    for name, value in headers:
        if name == own_header:
            return value.strip()
        if name == b"authorization":
            scheme, _, text = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return text.strip()
    return b""


def _is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if not client:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
