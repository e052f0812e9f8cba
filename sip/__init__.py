"""RFC 3261: messages, transactions, response contexts. Knows nothing of emergencies.

Bytes and time go in, bytes and events come out; only `transport` knows sockets. Read in this order:
message (what nobody edited leaves as it came), transaction (the four machines as tables), stack (matches
messages to transactions, owns the timers), proxy (ResponseContext, section 16), transport (the edge).
"""
