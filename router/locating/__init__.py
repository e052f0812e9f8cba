"""Asking others where a caller is while the call waits: location servers (HELD) and location references."""
