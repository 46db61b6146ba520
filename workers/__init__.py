"""Doors out and clocks: one loop a file."""
