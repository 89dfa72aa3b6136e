"""The native door: a superset of the OpenAI Videos shape under /v1."""
