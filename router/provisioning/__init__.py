"""Registered locations told to providers and ALI databases."""
