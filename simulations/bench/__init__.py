"""What 911 calls cost a router on this machine: calls per second, CPU, memory, added latency, time to fail over."""
