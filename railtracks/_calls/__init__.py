"""Calls of nodes: single calls, calls side by side, and the place of each call in the call tree."""
