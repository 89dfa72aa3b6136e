"""Words outside the demo model's world and the nearest words inside it. Standard library only."""

from collections.abc import Mapping


def _each(groups: Mapping[str, str]) -> dict[str, str]:
    """Map each word of the values to its key: from "known: foreign words" to "foreign word: known"."""
    return {word: known for known, words in groups.items() for word in words.split()}


_COLORS = _each(
    {
        "red": """
            crimson scarlet ruby maroon cherry vermilion rose rosy pink salmon coral magenta burgundy bloody fiery
        """,
        "orange": "amber tangerine apricot peach copper bronze brown rust rusty terracotta carrot",
        "yellow": "golden gold lemon blond blonde cream mustard beige sunny khaki",
        "green": "emerald lime olive mint jade leafy grassy mossy teal",
        "blue": "azure navy cyan turquoise aqua indigo cobalt sapphire ultramarine denim bluish",
        "purple": "violet lilac lavender mauve plum fuchsia amethyst",
        "white": "ivory snowy pale bright milky pearl chalk",
        "black": "dark ebony jet inky sable obsidian onyx charcoal",
        "gray": "grey silver silvery ashen slate leaden smoky",
    }
)
_PLACES = _each(
    {
        "blue": "sea ocean sky water lake river heaven heavens pool underwater",
        "green": "grass meadow forest jungle lawn park garden hill hills field wood woods prairie",
        "yellow": "sand desert beach dune dunes wheat",
        "white": "snow snowfield ice winter cloud clouds paper arctic fog mist",
        "black": "night space midnight darkness cosmos galaxy universe cave void",
        "gray": "street road city asphalt concrete stone rock rocks rain storm mountain mountains town",
        "orange": "sunset sunrise dawn dusk autumn evening",
        "red": "lava mars fire inferno",
        "purple": "twilight dreamland nebula",
    }
)
_SHAPES = _each(
    {
        "circle": """
            ball balloon sphere disc disk dot orb round moon sun planet bubble marble coin ring globe apple egg
            wheel face head bird fish cat dog bear animal football basketball star person man woman girl boy child
            whale dolphin frog tire jellyfish dragon
        """,
        "square": """
            box cube block rectangle tile brick quad crate dice die house building car truck bus robot book window
            train
        """,
        "triangle": """
            pyramid cone wedge arrow arrowhead tent mountaintop sail sailboat boat ship rocket tree plane airplane
            kite delta tip fox tower
        """,
    }
)
_MOTIONS = _each(
    {
        "left": "leftward leftwards west westward westwards",
        "right": "rightward rightwards east eastward eastwards",
        "up": """
            upward upwards rises rise rising ascends ascend ascending climbs climb climbing soars soaring lifts
            launches takeoff
        """,
        "down": """
            downward downwards falls fall falling drops drop dropping sinks sink sinking descends descend descending
            lands landing
        """,
        "still": """
            static motionless stationary rests rest resting stands stand standing sits sit sitting waits waiting
            sleeps sleeping frozen immobile calm calmly quiet quietly pauses hovers hovering stops stopped
        """,
        "bounce": """
            jumps jump jumping hops hop hopping bounces bouncing bounced springs leaps leaping dribbles bobs dances
            dancing
        """,
        "orbit": """
            circles circling orbits orbiting rotates rotate rotating spins spin spinning turns turning revolves
            revolving around loops looping swirls whirls
        """,
        "grow": """
            grows growing expands expand expanding inflates inflating swells enlarges approaches approaching widens
            increases bigger larger zooms
        """,
        "shrink": """
            shrinks shrinking contracts contracting deflates deflating diminishes dwindles recedes receding vanishes
            disappears decreases smaller
        """,
    }
)
_SIZES = _each(
    {
        "small": "little tiny mini minute miniature wee petite",
        "big": "large huge giant great enormous massive gigantic tall vast wide",
    }
)
_SPEEDS = _each(
    {
        "slowly": "slow gently gentle lazily lazy leisurely softly gradually",
        "quickly": "quick fast rapidly rapid swiftly swift speedy speedily hastily racing races rushes",
    }
)

SYNONYMS: dict[str, tuple[str, str]] = {
    word: (kind, known)
    for kind, table in (
        ("color", _COLORS),
        ("background", _PLACES),
        ("shape", _SHAPES),
        ("motion", _MOTIONS),
        ("size", _SIZES),
        ("speed", _SPEEDS),
    )
    for word, known in table.items()
}
"""Foreign word → (kind, known word)."""

MOVING: dict[str, str] = _each(
    {
        "right": """
            move moves moving drift drifts drifting run runs running walk walks walking drive drives driving swim
            swims swimming go goes going travel travels slide slides sliding cross crosses crossing sail sails
            sailing glide glides gliding ride rides riding wander wanders wandering roll rolls rolling race races
            racing chase chases
        """,
        "still": "stays",
        "up": "fly flies flying float floats floating",
    }
)
"""Verbs that name no direction: the motion that they mean where no other word names one."""

TYPICAL: dict[str, str] = _each(
    {
        "yellow": "sun star moon banana cheese",
        "green": "frog tree leaf cactus cucumber",
        "blue": "whale dolphin planet",
        "orange": "basketball fox tiger carrot pumpkin",
        "white": "cloud sheep snowman swan egg ghost",
        "black": "tire crow raven panther",
        "purple": "grape eggplant",
    }
)
"""Things whose colour goes without saying: the colour they take where the prompt names none."""
