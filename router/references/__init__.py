"""Locations by reference: our URIs, and the process that answers them (RFC 6753)."""
