"""Example storyboards of the empty studio, in words that the shipped demo model understands."""

from dataclasses import dataclass

from app.web.studio.draft import Draft, ShotDraft


@dataclass(frozen=True)
class ExampleStoryboard:
    """A storyboard that one click puts into the form."""

    id: str
    title: str
    draft: Draft


def _example(name: str, title: str, *shots: tuple[str, int, str]) -> ExampleStoryboard:
    drafts = (ShotDraft(prompt=prompt, seconds=seconds, transition=transition) for prompt, seconds, transition in shots)
    return ExampleStoryboard(name, title, Draft(shots=tuple(drafts)))


EXAMPLES = (
    _example(
        "sunrise",
        "Sunrise",
        ("a yellow circle moves up slowly on an orange background", 3, "cut"),
        ("a big yellow circle moves up on a blue background", 2, "crossfade"),
        ("a white circle moves right slowly on a blue background", 3, "crossfade"),
    ),
    _example(
        "rocket",
        "Rocket",
        ("a red triangle stays still on a gray background", 1, "cut"),
        ("a red triangle moves up quickly on a blue background", 2, "cut"),
        ("a red triangle moves up and a white circle moves in a circle on a black background", 3, "crossfade"),
    ),
    _example(
        "ball",
        "Bouncing ball",
        ("an orange circle bounces on a green background", 2, "cut"),
        ("a big orange circle bounces quickly on a white background", 2, "cut"),
        ("an orange circle shrinks on a black background", 2, "crossfade"),
    ),
    _example(
        "traffic",
        "Traffic",
        ("a red square moves right quickly on a gray background", 2, "cut"),
        ("a blue square moves left and a yellow square moves right on a gray background", 3, "cut"),
        ("a big red square moves right slowly on a green background", 2, "cut"),
    ),
    _example(
        "shapes",
        "Three shapes",
        ("a red circle grows on a white background", 2, "cut"),
        ("a blue square moves in a circle on a yellow background", 2, "cut"),
        ("a white triangle bounces on a purple background", 2, "cut"),
    ),
    _example(
        "chinese",
        "中文示例",
        ("一个红色的圆形在蓝色背景上向左移动", 2, "cut"),
        ("黄色的方块在绿色背景上弹跳", 2, "cut"),
        ("白色三角形在紫色背景上慢慢变大", 2, "crossfade"),
    ),
)


def example_draft(name: str) -> Draft:
    """Return the draft of an example, or an empty one for an unknown name."""
    return next((each.draft for each in EXAMPLES if each.id == name), Draft())
