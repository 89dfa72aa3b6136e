"""Run the operator's picture classifier, in a confined process: a model that hangs or misbehaves stops nobody.

`python -m app.moderation.onnx_process` reads what to do (`OnnxPictures.check` writes it) and prints `{"scores": […]}`:
for each picture the scores of the labels. Neither the model nor the pictures can read our settings, reach the network,
or take more time and memory than the policy allows.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from app.confined import confine

_OUTPUT_BYTES = 2**20
_CPU_SECONDS_MORE = 10  # for the start, and for what threads do beside each other


def main() -> int:
    """Print the scores of the pictures that the input names. Ends with an error for a model that cannot be run."""
    order = json.load(sys.stdin)
    os.nice(5)
    cpu_seconds = int(order["seconds"] * order["threads"]) + _CPU_SECONDS_MORE
    confine(cpu_seconds=cpu_seconds, output_bytes=_OUTPUT_BYTES, memory_bytes=order["memory_bytes"])
    print(json.dumps({"scores": _scores(order)}))  # noqa: T201 - the answer to the parent process
    return 0


def _scores(order: dict[str, Any]) -> list[list[float]]:
    # Imported behind the limits, which hold for its threads and its memory too.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = order["threads"], 1
    # From bytes: the model can name no other file that is read with it.
    content = Path(order["model"]).read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    # One picture at a time: some models have a fixed batch of one.
    return [_activated(session.run(None, {name: _tensor(order, path)})[0], order) for path in order["pictures"]]


def _tensor(order: dict[str, Any], path: str) -> Any:
    """Return a picture as the model's input, float32 [1, 3, H, W] or [1, H, W, 3]."""
    import numpy as np
    from PIL import Image

    with Image.open(path, formats=["JPEG"]) as picture:
        resized = picture.convert("RGB").resize(tuple(order["input_size"]), Image.Resampling.BILINEAR)
    values: Any = np.asarray(resized, np.float32) / np.float32(255)
    values = (values - np.array(order["mean"], np.float32)) / np.array(order["std"], np.float32)
    return np.ascontiguousarray((values.transpose(2, 0, 1) if order["layout"] == "nchw" else values)[None])


def _activated(output: Any, order: dict[str, Any]) -> list[float]:
    import numpy as np

    values: Any = np.asarray(output, np.float64).reshape(-1)
    if order["activation"] == "softmax":
        values = np.exp(values - values.max())
        values /= values.sum()
    elif order["activation"] == "sigmoid":
        values = 1 / (1 + np.exp(-values))
    return [float(value) for value in values]


if __name__ == "__main__":
    sys.exit(main())
