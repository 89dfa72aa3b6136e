"""The Connect page: code snippets for API clients, with this service's base URL filled in."""

from fastapi import APIRouter, Request, Response

from app.settings import get_settings
from app.web.auth import CreatorDep
from app.web.language import gettext, gettext_noop, translate
from app.web.render import page

router = APIRouter(include_in_schema=False)

_CURL = """curl {base}/v1/videos \\
  -H "Authorization: Bearer $CINEMETER_API_KEY" \\
  -H "Content-Type: application/json" \\
  -H "Idempotency-Key: $(date +%s)-$$" \\
  -d '{{
    "prompt": "a red circle moves left on a blue background",
    "seconds": 5,
    "resolution": "720P",
    "max_price": "5.00"
  }}'
"""

_OPENAI = """import os

from openai import OpenAI

client = OpenAI(base_url="{base}/v1", api_key=os.environ["CINEMETER_API_KEY"])

video = client.videos.create_and_poll(
    model="auto",
    prompt="a red circle moves left on a blue background",
    seconds="5",
    size="1280x720",
)
client.videos.download_content(video.id).write_to_file("film.mp4")
"""

_DASHSCOPE = """import os
import uuid

import dashscope
from dashscope import VideoSynthesis

dashscope.base_http_api_url = "{base}/api/v1"

response = VideoSynthesis.call(
    api_key=os.environ["CINEMETER_API_KEY"],
    model="demo",
    prompt="a red circle moves left on a blue background",
    size="1280*720",
    duration=5,
    # The client retries a call whose response was lost; the key makes it one film.
    headers={{"Idempotency-Key": str(uuid.uuid4())}},
)
print(response.output.video_url)
"""

_MCP = """{{
  "mcpServers": {{
    "cinemeter": {{
      "type": "http",
      "url": "{base}/mcp",
      "headers": {{ "Authorization": "Bearer ${{CINEMETER_API_KEY}}" }}
    }}
  }}
}}
"""

# id, title, description, text. tests/contracts/test_snippets.py runs each as it is.
SNIPPETS = (
    ("curl", "curl", gettext_noop("The plain HTTP call behind every client library."), _CURL),
    ("openai", "OpenAI SDK", gettext_noop("The native API is a superset of OpenAI's Videos API."), _OPENAI),
    ("dashscope", "DashScope SDK", gettext_noop("The same service under DashScope's URLs."), _DASHSCOPE),
    ("mcp", "MCP", gettext_noop("For assistants that use tools."), _MCP),
)


@router.get("/account/connect")
def show_connect(request: Request, visitor: CreatorDep) -> Response:
    """Show the snippets with this service's base URL."""
    base = get_settings().base_url()
    snippets = [
        {"id": name, "title": title, "description": translate(description), "text": text.format(base=base)}
        for name, title, description, text in SNIPPETS
    ]
    return page(request, "account/connect.html", title=gettext("Connect"), base=base, snippets=snippets)
