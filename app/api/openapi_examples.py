"""Examples of the OpenAPI document: of each operation one exchange as it took place, kept in examples.json.

`make examples` records them anew from the tests; a test compares them with the schemas.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("examples.json")


def read_examples() -> dict[str, dict[str, Any]]:
    """Return by operation id the body of a request in JSON, and the answer to it."""
    examples: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return examples


def add_examples(document: dict[str, Any]) -> None:
    """Put the recorded exchange of each operation beside the schemas of its body and its answer, in place."""
    examples = read_examples()
    for methods in document["paths"].values():
        for operation in methods.values():
            example = examples.get(operation["operationId"], {})
            if "answer" in example:
                success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
                success["content"]["application/json"]["example"] = example["answer"]
            if "request" in example and "requestBody" in operation:
                operation["requestBody"]["content"]["application/json"]["example"] = example["request"]
