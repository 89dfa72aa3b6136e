"""The doors: native videos (OpenAI-shaped), DashScope, admin and MCP. Each translates into a Spec and back."""
