"""Sessions on workers of other programs: executors and Dask clusters. Imported on first use."""

from railtracks._sessions.flow import BoundFlow
from railtracks.remote._flows import args, map_flow, submit

__all__ = ["BoundFlow", "args", "map_flow", "submit"]
