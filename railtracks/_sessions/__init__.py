"""Sessions: how they open, what they hold while they are open, and how they end."""
