"""Errors of the MCP interface: the text of every refused call is the JSON of a problem document."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import ValidationError

from app.api.problems import from_validation
from app.errors import AppError, shortened


def tool_error(error: AppError) -> ToolError:
    """Return an error as a tool error whose text is JSON."""
    error = shortened(error)
    facts = {"code": error.code, "message": error.message, "field": error.field, **error.facts}
    return ToolError(json.dumps({name: value for name, value in facts.items() if value is not None}, default=str))


class ProblemServer(MCPServer[Any]):
    """An MCP server whose refusals are JSON; the library's own are sentences around it, or Pydantic's text.

    Arguments that a tool does not have are refused by name: an agent that misspells one would not notice it.
    """

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool by name. Raises ToolError, whose text is JSON."""
        tools = {tool.name: tool.fn for tool in self._tool_manager.list_tools()}
        if name not in tools:
            message = f"There is no tool {name[:100]!r}."
            raise tool_error(AppError("not_found", message, field="name", allowed=sorted(tools)))
        _refuse_unknown(tools[name], arguments)
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            message = "An internal error; nothing was charged."
            raise UnexpectedToolError(str(tool_error(AppError("internal_error", message)))) from error
        except ToolError as error:
            raise _refusal(error) from error


def _refuse_unknown(tool: Any, arguments: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(tool).parameters if name != "context"]
    unknown = next((name for name in arguments if name not in known), None)
    if unknown is not None:
        message = f"Unknown argument: {unknown[:100]!r}."
        raise tool_error(AppError("invalid_request", message, field=unknown[:100], allowed=known))


def _refusal(error: ToolError) -> ToolError:
    """Return the JSON behind the library's sentence: that of the tool itself, or of the wrong arguments."""
    cause = error.__cause__
    if isinstance(cause, ToolError):
        return cause
    if isinstance(cause, ValidationError):
        return tool_error(from_validation(cause.errors(include_url=False, include_input=False)))
    return tool_error(AppError("invalid_request", str(error)))
