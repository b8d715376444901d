"""Calls of nodes: one alone, and many side by side; where each stands in the tree."""
