"""The evaluation's arithmetic, and that it prints exactly one line of JSON."""

import json
import subprocess
import sys

import pytest

from workers.demo_model.evaluate import ASPECTS, draw_prompts, wilson


def test_wilson_bounds_hold_the_fraction() -> None:
    """Known values of the score interval (Wilson 1927): 9 of 10 and 0 of 10."""
    low, high = wilson(9, 10)
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(500, 500)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_prompts_come_from_the_seed_and_half_are_held_out() -> None:
    """The same seed draws the same prompts; every second one was never trained on."""
    prompts = draw_prompts(40, 3)
    assert prompts == draw_prompts(40, 3)
    assert prompts != draw_prompts(40, 4)
    assert sum(held_out for _, held_out in prompts) == 20


@pytest.mark.deep
def test_it_prints_exactly_one_line_of_json() -> None:
    """Programs can read the figures: fractions between 0 and 1 and their bounds."""
    command = [sys.executable, "-m", "workers.demo_model.evaluate", "--prompts", "2", "--seed", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    figures = json.loads(line)
    for aspect in ASPECTS:
        assert 0 <= figures[aspect] <= 1
        low, high = figures["bounds"][aspect]
        assert low <= figures[aspect] <= high
