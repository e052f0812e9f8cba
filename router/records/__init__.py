"""The record of each emergency call, made of its journal events, its notices and its messages."""
