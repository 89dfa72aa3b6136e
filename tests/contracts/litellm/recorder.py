"""A callback of LiteLLM's proxy that writes the cost of each call to the file `costs.jsonl` beside it."""

import json
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

COSTS = Path(__file__).with_name("costs.jsonl")


class Recorder(CustomLogger):  # type: ignore[misc]
    """Writes one line for each call that succeeded."""

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        line = {"type": str(kwargs.get("call_type")), "cost": kwargs.get("response_cost")}
        with COSTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


recorder = Recorder()
