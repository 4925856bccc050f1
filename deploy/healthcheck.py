"""The image's health check: exit status 0 when the server in this container is ready, else 1 with the reason."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask /readyz on the port that the server took from the same environment."""
    port = os.environ.get("LMHT_PORT") or os.environ.get("PORT") or "8000"
    # No proxy from the environment: the server is in this container.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=4):
            return 0
    except urllib.error.HTTPError as error:
        print(f"{error.code}: {error.read(2000).decode(errors='replace')}")
    except OSError as error:
        print(error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
