"""Sessions that survive the death of their process: what they are made of is behind the extra "durable"."""
