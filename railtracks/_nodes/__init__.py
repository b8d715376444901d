"""From a function to a node: its options, its retries, its signature."""
