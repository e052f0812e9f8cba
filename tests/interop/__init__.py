"""The router between real peers."""
