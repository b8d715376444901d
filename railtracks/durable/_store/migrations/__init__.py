"""The revisions of a store's tables. Each module in `versions` is one, and `upgrade` of the store's package runs it.

They have the form of alembic's, but for one thing: `upgrade` is handed the operations of its own connection. The proxies
`alembic.op` and `alembic.context` belong to the whole process, and the application may be using them in another thread.
"""
