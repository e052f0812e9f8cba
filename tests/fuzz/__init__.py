"""Fuzzing: mutated messages against parser, framing, transactions, the router, multipart and PIDF-LO reader."""
