"""The Hugging Face hub: whether it can be reached, and what its client must know before it is asked for anything.

The client tries a refused connection again for 23 s per request, and a tokenizer takes two requests. So the connection
is tried here first. Without one, the client looks in its cache only.
"""
from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

from study import StudyError
from study.data.local_files import ENVIRONMENT

CONNECT_SECONDS = 5.0                       # for all addresses of the hub, or of the proxy, together
PORTS = {"http": 80, "https": 443}


def can_reach_hub() -> bool:
    """Returns whether a connection to the hub, or to the proxy that leads there, can be opened. False at once if the
    environment says that the client works offline."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    hub = urlparse(constants.ENDPOINT)
    proxies = getproxies()
    proxy = proxies.get(hub.scheme) or proxies.get("all")
    server = urlparse(proxy) if proxy and not proxy_bypass(hub.hostname or "") else hub
    try:
        port = server.port or PORTS.get(server.scheme)
    except ValueError:                      # not a number
        port = None
    return not (server.hostname and port) or _accepts_connections(server.hostname, port)    # else the client says why


def _accepts_connections(host: str, port: int) -> bool:
    end = time.monotonic() + CONNECT_SECONDS
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:                         # the name has no address
        return False
    for *kind, _, address in addresses:
        try:
            with socket.socket(*kind) as connection:
                connection.settimeout(max(0.1, end - time.monotonic()))
                connection.connect(address)
            return True
        except OSError:
            if time.monotonic() > end:
                break
    return False


def quiet_client() -> None:
    """Sets what the client reads when it is imported, so that it does not tell the hub what is loaded."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def prepare_client() -> None:
    """Makes the client of `datasets` look in its cache only if the hub cannot be reached, unless the environment says
    otherwise. The client has read the environment when it was imported."""
    import datasets
    from huggingface_hub import constants

    if not can_reach_hub() and os.environ.setdefault("HF_HUB_OFFLINE", "1") == "1":
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True


def is_cached(name: str) -> bool:
    """Returns whether the client's cache has files of a model."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="model")).is_dir()


def check_hub_cache() -> None:
    """Raises StudyError if the folder in which the client keeps downloaded files cannot be written."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StudyError(f"{folder}: the client of the hub cannot keep its files there ({error.strerror}); set HF_HOME "
                         f"to a folder that can be written") from None
