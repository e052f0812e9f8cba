"""What the tests stand on: peers, sinks, free ports, and the router as a process of its own."""
