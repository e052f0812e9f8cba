"""The store: registered devices, call records and the outbox, in SQLite or PostgreSQL (SQLAlchemy Core)."""
