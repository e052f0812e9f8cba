"""The transaction user of the call process: which requests are served, and where those that are no emergency go."""
