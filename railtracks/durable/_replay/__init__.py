"""The journal of one session: what an earlier run recorded, and what this run adds."""
