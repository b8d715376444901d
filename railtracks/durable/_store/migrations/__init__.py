"""The revisions of a store's tables: each module in `versions` is one, and `upgrade` runs them.

They have the form of alembic's, but `upgrade` is handed the operations of its own connection. The proxies `alembic.op`
and `alembic.context` belong to the whole process, and the application may be using them in another thread.
"""
