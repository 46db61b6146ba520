"""Doors in: the REST API. One file a noun, its schemas beside it; `app.py` alone wires."""
