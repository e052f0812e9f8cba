"""Calls back to who dialled 911: numbers lent (ELIN), kept, shared by nodes, and the way to the phone."""
