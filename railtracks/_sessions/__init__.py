"""Sessions: opening, background calls, resources, broadcasts, drain, and the order of the end; `Flow` and `@session`."""
