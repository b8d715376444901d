"""The journal of one session: what an earlier run recorded, and what this run adds.

Called by the modules of `railtracks.durable._sessions`, and through `railtracks._calls.durable_protocol` by the core.

Where to look
-------------
What tells one call from another?
    `strands`: the position of a call among the calls of its strand, and the key that is made of it.
What makes a mismatch?
    `mismatches`: every comparison of what the code asks for with what is recorded.
What decides that an outcome may be handed over?
    `turns`: the order of the outcomes, and `Turns.is_next`. `order` waits for it.
What does a call do?
    `replayed` for a call with a recorded outcome, `calls` for one that runs.
What is written, and when?
    `commits`: one transaction for each outcome, before the caller has it.
"""
