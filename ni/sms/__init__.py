"""Texts to customers: an event becomes a message, and the message is sent until it is accepted."""
