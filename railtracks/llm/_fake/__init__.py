"""A server on loopback that answers as providers of models do: `testing.FakeProvider`.

`provider` has the server, `script` its script, `http` the protocol below. Each of `openai`, `responses`, `anthropic`
and `google` reads and writes the JSON of one provider's interface, a *wire*. `conversation` and `schemas` refuse what
providers refuse.
"""
