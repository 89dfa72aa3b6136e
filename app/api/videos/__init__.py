"""Videos at the native interface: a superset of the OpenAI Videos API under /v1."""
