"""The API interfaces: native (OpenAI-compatible), DashScope, admin and MCP. Each translates to a Spec and back."""
