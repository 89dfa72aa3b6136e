"""Examples in the OpenAPI document: one recorded request and response for each operation, kept in examples.json.

`make examples` records them again from the tests; a test validates them against the schemas.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("examples.json")


def read_examples() -> dict[str, dict[str, Any]]:
    """Return, by operation id, the JSON body of a request and of the response to it."""
    examples: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
    return examples


def add_examples(document: dict[str, Any]) -> None:
    """Add each operation's recorded example to the schemas of its request and response, in place."""
    examples = read_examples()
    for methods in document["paths"].values():
        for operation in methods.values():
            example = examples.get(operation["operationId"], {})
            if "answer" in example:
                success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
                success["content"]["application/json"]["example"] = example["answer"]
            if "request" in example and "requestBody" in operation:
                operation["requestBody"]["content"]["application/json"]["example"] = example["request"]
