"""The import of an SDK on first use, in a worker thread. Called where a connection to a model is opened."""

from __future__ import annotations

import functools
import logging
import ssl
import sys
import time
from importlib import import_module
from typing import Final

import trio

_LOG: Final = logging.getLogger("RT")


async def load(extra: str, *modules: str) -> None:
    """Import the modules of an SDK, all that the first request needs.

    It runs in a worker thread: it takes seconds, in which other tasks go on. A cancel waits for it.

    Args:
        extra: The extra that brings the SDK.
        *modules: The modules, the package first.

    Raises:
        ImportError: If one is not installed.
    """
    await trio.to_thread.run_sync(_load, extra, modules)


def _load(extra: str, modules: tuple[str, ...]) -> None:
    is_new = any(each not in sys.modules for each in modules)
    begun = time.perf_counter()
    try:
        for each in modules:
            import_module(each)
        tls()
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the model needs {error.name}: install it with  pip install 'railtracks-trio[{extra}]'"
        ) from error
    if is_new:
        _LOG.debug("%s took %.2f s to load", modules[0], time.perf_counter() - begun)


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the TLS settings of all clients. Reading the certificates takes a client's whole time, so it is done once.

    They hold nothing of a connection, and threads may share them.
    """
    # Comes with each of the SDKs, and looks for certificates as their own clients do.
    import httpx2  # noqa: PLC0415

    return httpx2.create_ssl_context()
