"""Where peers are and how they are reached: trunks, DNS, listening points, probes, certificates."""
