"""Nodes: functions with options, retries and a signature, which sessions can call."""
