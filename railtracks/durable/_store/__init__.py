"""The database of a store: its tables, its transactions, and which process may write to a session."""
