"""The Flask application, which has run flows as it was imported: on the main thread, and on the Trio thread."""

import asyncio

import server_flows as flows
from flask_app import app

__all__ = ["app"]

assert flows.WORK.invoke(10) == 45
assert asyncio.run(flows.WORK.ainvoke(10)) == 45
