"""Connect: how programs reach the service, with the address and a key's name already in the text."""

from fastapi import APIRouter, Request, Response

from app.settings import get_settings
from app.web.auth import CreatorDep
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

answer = VideoSynthesis.call(
    api_key=os.environ["CINEMETER_API_KEY"],
    model="demo",
    prompt="a red circle moves left on a blue background",
    size="1280*720",
    duration=5,
    # The client repeats a call whose answer was lost; with this it stays one film.
    headers={{"Idempotency-Key": str(uuid.uuid4())}},
)
print(answer.output.video_url)
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

# id, title, what it is, text. tests/contracts/test_snippets.py runs each as it stands.
SNIPPETS = (
    ("curl", "curl", "Every client library comes down to this.", _CURL),
    ("openai", "OpenAI SDK", "The native API is a superset of OpenAI's videos.", _OPENAI),
    ("dashscope", "DashScope SDK", "The same service under Alibaba's addresses.", _DASHSCOPE),
    ("mcp", "MCP", "For assistants that use tools.", _MCP),
)


@router.get("/account/connect")
def show_connect(request: Request, visitor: CreatorDep) -> Response:
    """Show the snippets with this service's own address."""
    base = get_settings().base_url()
    snippets = [
        {"id": name, "title": title, "words": words, "text": text.format(base=base)}
        for name, title, words, text in SNIPPETS
    ]
    return page(request, "account/connect.html", title="Connect", base=base, snippets=snippets)
