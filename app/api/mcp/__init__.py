"""The MCP interface: agents price, confirm, order and follow films over streamable HTTP at /mcp."""
