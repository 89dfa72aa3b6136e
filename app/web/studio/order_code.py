"""“Show as code”: the order of the studio's form as curl, Python and JavaScript."""

import json
from typing import Any

from app.settings import get_settings
from app.web.studio.draft import Draft, ShotDraft, draft_request

_CURL = """curl {url} \\
  -H "Authorization: Bearer $CINEMETER_API_KEY" \\
  -H "Content-Type: application/json" \\
  -H "Idempotency-Key: $(date +%s)-$$" \\
  -d '{body}'
"""
_PYTHON = """import json
import os
import urllib.request
import uuid

order = json.loads(r\"\"\"{body}\"\"\")
request = urllib.request.Request(
    "{url}",
    data=json.dumps(order).encode(),
    headers={{
        "Authorization": f"Bearer {{os.environ['CINEMETER_API_KEY']}}",
        "Content-Type": "application/json",
        "Idempotency-Key": str(uuid.uuid4()),
    }},
)
print(json.load(urllib.request.urlopen(request)))
"""
_JAVASCRIPT = """const response = await fetch("{url}", {{
  method: "POST",
  headers: {{
    Authorization: `Bearer ${{process.env.CINEMETER_API_KEY}}`,
    "Content-Type": "application/json",
    "Idempotency-Key": crypto.randomUUID(),
  }},
  body: JSON.stringify({body}),
}});
console.log(await response.json());
"""


def order_snippets(draft: Draft, total: str) -> list[dict[str, str]]:
    """Return the order of a draft as code, which pays at most `total`. Raises what `draft_request` raises."""
    draft_request(draft, allow_empty_prompts=True)
    body = json.dumps(order_body(draft, total), indent=2, ensure_ascii=False)
    url = f"{get_settings().base_url()}/v1/videos"
    # Inside single quotes of a shell a quote is written as '\\''.
    texts = {
        "curl": _CURL.format(url=url, body=body.replace("'", "'\\''")),
        "Python": _PYTHON.format(url=url, body=body.replace('"""', '\\"\\"\\"')),
        "JavaScript": _JAVASCRIPT.format(url=url, body=body),
    }
    return [{"id": name.lower(), "title": name, "text": text} for name, text in texts.items()]


def order_body(draft: Draft, total: str) -> dict[str, Any]:
    """Return the body of the API request that orders exactly this draft."""
    shots = [_shot(shot) for shot in draft.shots]
    body: dict[str, Any] = {"model": draft.model}
    if len(shots) == 1 and "transition" not in shots[0]:
        body |= shots[0]
    else:
        body["shots"] = shots
    body |= {"resolution": draft.resolution, "ratio": draft.ratio, "service_tier": draft.service_tier}
    if draft.sound == "off":
        body["sound"] = False
    if draft.deepfake:
        body["deepfake"] = True
    if draft.declaration:
        body["declaration"] = draft.declaration
    if draft.seed:
        body["seed"] = int(draft.seed)
    for name in ("negative_prompt", "project"):
        if getattr(draft, name):
            body[name] = getattr(draft, name)
    return {**body, "max_price": total}


def _shot(shot: ShotDraft) -> dict[str, Any]:
    values: dict[str, Any] = {"prompt": shot.prompt, "seconds": shot.seconds}
    if shot.transition != "cut":
        values["transition"] = shot.transition
    for name in ("first_frame", "last_frame"):
        if getattr(shot, name):
            values[name] = getattr(shot, name)
    return values
