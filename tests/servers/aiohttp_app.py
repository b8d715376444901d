"""An aiohttp server. Usage: aiohttp_app.py PORT."""

import sys

import server_flows as flows
from aiohttp import web

import railtracks as rt


async def work(request: web.Request) -> web.Response:
    return web.json_response(await flows.answer(flows.WORK.ainvoke(10)))


async def fail(request: web.Request) -> web.Response:
    return web.json_response(await flows.answer(flows.FAIL.ainvoke()))


async def slow(request: web.Request) -> web.Response:
    return web.json_response(await flows.answer(flows.SLOW.ainvoke()))


async def hang(request: web.Request) -> web.Response:
    return web.json_response(await flows.answer(flows.HANG.ainvoke()))


async def end(app: web.Application) -> None:
    await rt.ashutdown(flows.GRACE)


app = web.Application()
app.on_shutdown.append(end)
app.add_routes([web.get(f"/{handler.__name__}", handler) for handler in (work, fail, slow, hang)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, handler_cancellation=True)
