"""Load generation and reports. Speaks HTTP only; may import service.client, and nothing else of service or models."""
