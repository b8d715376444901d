"""Flows in web servers that speak ASGI: they end when the server stops, and when the client of a request leaves.

    app = FastAPI(lifespan=rt.asgi.lifespan)


    @app.get("/report")
    async def report(request: Request) -> str:
        return await rt.asgi.cancel_on_disconnect(request, flow.ainvoke())

Use it as `rt.asgi`. It works with servers on asyncio and on Trio, and needs nothing but what the application has.
"""

from __future__ import annotations

from railtracks.asgi._disconnect import cancel_on_disconnect
from railtracks.asgi._lifespan import lifespan, with_lifespan

__all__ = ["cancel_on_disconnect", "lifespan", "with_lifespan"]
