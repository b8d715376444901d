"""An MCP server over stdio that needs no package: the argument says how it behaves."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

TOOLS = [
    {"name": name, "description": f"It will {name}.", "inputSchema": {"type": "object"}}
    for name in ("add", "crash", "hang", "refuse", "pid")
]


def answer(request: dict[str, Any]) -> dict[str, Any] | str | None:
    match request["method"]:
        case "initialize":
            version = request["params"]["protocolVersion"]
            info = {"name": "tools", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            is_second = request.get("params", {}).get("cursor") == "more"
            return {"tools": TOOLS[2:]} if is_second else {"tools": TOOLS[:2], "nextCursor": "more"}
        case "tools/call":
            return call(**request["params"])
        case _:
            return None


def call(name: str, arguments: dict[str, int], **_: object) -> dict[str, Any] | str | None:
    if name == "crash":
        os._exit(3)
    if name == "hang":
        return "later"
    if name == "refuse":
        return None
    text = str(os.getpid()) if name == "pid" else str(arguments["a"] + arguments["b"])
    return {"content": [{"type": "text", "text": text}]}


behaviour = sys.argv[1]
earlier = ""
if len(sys.argv) > 2:
    # The file has a line for each start; with a word in place of these it starts no more.
    with Path(sys.argv[2]).open("a+", encoding="ascii") as starts:
        starts.seek(0)
        earlier = starts.read()
        if "no more" in earlier:
            sys.exit(7)
        print(os.getpid(), file=starts)
if behaviour in {"deaf", "unkillable"}:
    # It goes on after the end of its input, with a child of its own; the second one also after SIGTERM.
    if behaviour == "unkillable":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        time.sleep(100)
if behaviour == "stuck":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if behaviour == "rubbish":
    print("I am no server", flush=True)
if behaviour in {"rubbish", "silent", "stuck"}:
    time.sleep(100)
if behaviour == "exit":
    sys.exit(7)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    is_last = behaviour == "blind" and not earlier and "cursor" in request.get("params", {})
    if is_last:
        # The first time it reads nothing after its tools.
        os.close(0)
    result = answer(request)
    if result == "later":
        continue
    response = {"jsonrpc": "2.0", "id": request["id"]}
    if result is None:
        response["error"] = {"code": -32601, "message": "no such method"}
    else:
        response["result"] = result
    print(json.dumps(response), flush=True)
    if is_last:
        time.sleep(100)
if behaviour in {"deaf", "unkillable"}:
    time.sleep(100)
