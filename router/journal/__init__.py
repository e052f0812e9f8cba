"""The journal: what happened to emergency calls, one JSON line each, and how lines lie on the disk."""
