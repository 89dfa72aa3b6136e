"""The demo model reads any prompt: its own sentences unchanged, others by the nearest known words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.demo_terms import parse_prompt
from app.catalog.demo_words import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    SHAPES,
    SIZELESS,
    SIZES,
    SPEEDLESS,
    SPEEDS,
    Scene,
    Thing,
)


def _things(background: str, used: tuple[str, ...]) -> st.SearchStrategy[Thing]:
    """Things that the world holds on a background."""
    colors = [name for name in COLORS if name != background and name not in used]
    return st.builds(
        Thing,
        st.sampled_from(colors),
        st.sampled_from(SHAPES),
        st.sampled_from(list(MOTIONS)),
        st.sampled_from(SIZES),
        st.sampled_from(SPEEDS),
    ).map(
        lambda thing: Thing(
            thing.color,
            thing.shape,
            thing.motion,
            "" if thing.motion in SIZELESS else thing.size,
            "" if thing.motion in SPEEDLESS else thing.speed,
        )
    )


@st.composite
def _scenes(draw: st.DrawFn) -> Scene:
    """Scenes of one or two objects."""
    background = draw(st.sampled_from(list(BACKGROUNDS)))
    things: tuple[Thing, ...] = ()
    for _ in range(draw(st.integers(1, 2))):
        things += (draw(_things(background, tuple(thing.color for thing in things))),)
    return Scene(background, things)


@given(_scenes())
def test_its_own_sentences_come_back_unchanged(scene: Scene) -> None:
    """A caption of the training world is understood as exactly its scene, and every word of it is known."""
    understood = parse_prompt(scene.caption())
    assert understood.scene == scene
    assert understood.prompt == scene.caption()
    assert all(term.known for term in understood.terms)


@given(st.text(max_size=200))
def test_no_prompt_fails(prompt: str) -> None:
    """Whatever is written, a scene of the world comes out, and its sentence is understood as itself."""
    understood = parse_prompt(prompt)
    assert parse_prompt(understood.prompt).scene == understood.scene
    colors = [understood.scene.background, *(thing.color for thing in understood.scene.things)]
    assert len(set(colors)) == len(colors)


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("a crimson ball drifts leftwards over the sea", "a red circle moves left on a blue background"),
        ("A golden balloon rises above the snow", "a yellow circle moves up on a white background"),
        ("a white cricle shrinks", "a white circle shrinks on a black background"),
        ("a tiny blue box hops in the forest", "a small blue square bounces on a green background"),
        ("a car drives along the street", "a red square moves right on a gray background"),
        ("", "a red circle stays still on a white background"),
    ],
)
def test_foreign_words_take_the_nearest_known_ones(prompt: str, sentence: str) -> None:
    """Words outside the world do not fail."""
    assert parse_prompt(prompt).prompt == sentence


def test_terms_say_what_was_understood_and_what_was_assumed() -> None:
    """The job can show which words counted, in the prompt's order, and what the prompt left open."""
    terms = [term.as_dict() for term in parse_prompt("a scarlet square over the ocean").terms]
    assert terms == [
        {"said": "scarlet", "taken": "red", "kind": "color", "known": False},
        {"said": "square", "taken": "square", "kind": "shape", "known": True},
        {"said": "ocean", "taken": "blue", "kind": "background", "known": False},
        {"said": "", "taken": "still", "kind": "motion", "known": True},
    ]
