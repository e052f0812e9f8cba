"""The notices process: who is told what of a call, by which channel, and the proof of it."""
