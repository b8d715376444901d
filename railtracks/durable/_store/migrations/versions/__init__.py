"""The revisions of a store's tables, for alembic."""
