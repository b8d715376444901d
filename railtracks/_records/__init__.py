"""What is known of sessions and calls as plain data, and how it is written: nothing here awaits."""
