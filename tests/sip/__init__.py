"""RFC 3261: messages, transactions, response contexts."""
