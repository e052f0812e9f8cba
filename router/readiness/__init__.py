"""Whether 911 would work now: for how many phones, by which way, and what is to be mended first."""
