"""How a model with a small world reads a prompt: which words it understood, and what it will be told."""

from typing import Any

from app.catalog.demo_terms import understand
from app.catalog.models import VideoModel


def told(model: VideoModel, prompt: str) -> str:
    """Return the words that the model is given for a prompt: the prompt itself, unless its vocabulary is closed."""
    return understand(prompt).prompt if model.vocabulary == "demo" else prompt


def prompt_terms(model: VideoModel, prompts: list[str]) -> list[list[dict[str, Any]]] | None:
    """Return, per prompt, which of its words a closed vocabulary understood as what; None for an open one."""
    if model.vocabulary != "demo":
        return None
    return [[term.as_dict() for term in understand(prompt).terms] for prompt in prompts]
