"""Sessions from their opening to their end, with all that they hold; `Flow` and `@session`."""
