"""What a GPU can do beside its memory, by name: models require it in their files, and workers report it."""

from typing import Literal

GpuFeature = Literal[
    "bfloat16",
    "fp8",
    "flash-attention",
    "flash-attention-3",
    "cuda-7.0",
    "cuda-7.5",
    "cuda-8.0",
    "cuda-8.6",
    "cuda-8.9",
    "cuda-9.0",
    "cuda-10.0",
    "cuda-12.0",
]
# Compute capabilities that a model may require; a GPU has its own and all lower ones.
CAPABILITIES = ((7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
# The least compute capability with arithmetic in these numbers, and with the kernels of FlashAttention 2 in PyTorch.
BFLOAT16 = FLASH_ATTENTION = (8, 0)
FP8 = (8, 9)


def cuda_features(major: int, minor: int) -> list[str]:
    """Return the features of every NVIDIA GPU of this compute capability. FlashAttention 3 needs a package too."""
    own = (major, minor)
    features = [f"cuda-{each[0]}.{each[1]}" for each in CAPABILITIES if each <= own]
    least = {"bfloat16": BFLOAT16, "fp8": FP8, "flash-attention": FLASH_ATTENTION}
    return sorted([*features, *(name for name, capability in least.items() if capability <= own)])
