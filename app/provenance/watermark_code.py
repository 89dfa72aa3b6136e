"""The code of the watermark: 48 bits and their check sum, spread by a convolutional code, and read by Viterbi.

The code is the one of rate 1/3 and constraint length 7 with the generators 133, 171, 165 (octal) that LTE uses (3GPP
TS 36.212, 5.1.3.1), ended by six zeros.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

ID_BITS = 48
CHECK_BITS = 16
MEMORY = 6
GENERATORS = (0o133, 0o171, 0o165)
STEPS = ID_BITS + CHECK_BITS + MEMORY
CODE_BITS = STEPS * len(GENERATORS)
# CRC-16/CCITT: x^16 + x^12 + x^5 + 1. It begins with ones, so that the id 0 has a check sum that is not 0.
_CRC_POLYNOMIAL = 0x1021


def _check_sum(mark_id: int) -> int:
    register = 0xFFFF
    for byte in mark_id.to_bytes(ID_BITS // 8, "big"):
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ _CRC_POLYNOMIAL if register & 0x8000 else register << 1) & 0xFFFF
    return register


@cache
def _outputs() -> npt.NDArray[np.int8]:
    """Return the bits that follow each state of the register and each bit, int8 [64, 2, 3]."""
    outputs = np.zeros((2**MEMORY, 2, len(GENERATORS)), dtype=np.int8)
    for state in range(2**MEMORY):
        for bit in range(2):
            register = bit << MEMORY | state
            outputs[state, bit] = [(register & generator).bit_count() % 2 for generator in GENERATORS]
    return outputs


def encode(mark_id: int) -> npt.NDArray[np.int8]:
    """Return the code of an id, 0 or 1, int8 [CODE_BITS]. Raises ValueError for an id that 48 bits do not hold."""
    if not 0 <= mark_id < 2**ID_BITS:
        raise ValueError(f"a watermark's id has {ID_BITS} bits: 0 to {2**ID_BITS - 1}")
    word = mark_id << CHECK_BITS | _check_sum(mark_id)
    bits = [word >> place & 1 for place in reversed(range(ID_BITS + CHECK_BITS))] + [0] * MEMORY
    outputs, state, code = _outputs(), 0, []
    for bit in bits:
        code.append(outputs[state, bit])
        state = bit << MEMORY - 1 | state >> 1
    return np.concatenate(code)


def decode(evidence: npt.NDArray[np.float64]) -> int | None:
    """Return the id of the likeliest code, or None where its check sum is wrong.

    `evidence` float64 [CODE_BITS]: positive for a 0, negative for a 1, the larger the surer.
    """
    outputs = 1.0 - 2.0 * _outputs()  # [64, 2, 3]
    states = np.arange(2**MEMORY)
    # The state after a step has the step's bit on top; its two predecessors differ in the lowest bit.
    bit = states >> MEMORY - 1
    before = np.stack([states << 1 & 2**MEMORY - 1, states << 1 & 2**MEMORY - 1 | 1])  # [2, 64]
    score = np.full(2**MEMORY, -np.inf)
    score[0] = 0.0
    choices = np.empty((STEPS, 2**MEMORY), dtype=np.int8)
    for step in range(STEPS):
        gain = outputs @ evidence[step * len(GENERATORS) : (step + 1) * len(GENERATORS)]  # [64, 2]
        paths = score[before] + gain[before, bit]  # [2, 64]
        choices[step] = np.argmax(paths, axis=0)
        score = np.max(paths, axis=0)
    state, word = 0, 0
    for step in reversed(range(STEPS)):
        if step < ID_BITS + CHECK_BITS:
            word |= (state >> MEMORY - 1) << (ID_BITS + CHECK_BITS - 1 - step)
        state = int(before[choices[step, state], state])
    mark_id, check = word >> CHECK_BITS, word & 2**CHECK_BITS - 1
    return mark_id if check == _check_sum(mark_id) else None
