"""Reports that people print, file and hand on: made of neutral blocks, as HTML and as PDF."""
