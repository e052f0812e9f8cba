"""Registered locations: fed to the call process, imported, validated, and kept right by their owners."""
