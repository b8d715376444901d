"""Run a cell that ends with a session in a Jupyter kernel, and print what the cell shows, as HTML and as text."""

import json
import os
import sys

os.environ["IPYTHONDIR"] = os.environ["JUPYTER_RUNTIME_DIR"] = sys.argv[1]

import nbclient
import nbformat

CELL = """
import railtracks as rt

async def double(number: int) -> int:
    return 2 * number

connection = rt.Flow("numbers", double, save_state=False).connect()
await connection.ainvoke(4)
connection.info
"""

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
data = notebook.cells[0].outputs[-1]["data"]
print(json.dumps([data["text/html"], data["text/plain"]]))
