"""A call to 911: the decision (who, where, which routes), its ladder of routes, and what the provider gets."""
