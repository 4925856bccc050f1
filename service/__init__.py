"""The HTTP service. Starts without torch."""
