"""Requests within dialogs, and ways back: Record-Route, Path, flow tokens, emergency dialogs that we follow."""
