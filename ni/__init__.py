"""NI: the one place in a bank that knows the available balance, at every second of every day."""
