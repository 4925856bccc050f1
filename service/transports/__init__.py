"""The ways in: each translates one API to the handler and back, and knows nothing of engines."""
