"""The benchmark works."""
