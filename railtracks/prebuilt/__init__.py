"""What ships ready for use. Imported as `rt.prebuilt`."""

from __future__ import annotations

from railtracks.prebuilt import middleware

__all__ = ["middleware"]
