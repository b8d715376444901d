"""Durable sessions from outside: taken, run, parked, recovered, forked and looked at."""
