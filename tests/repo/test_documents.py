"""README.md and deploy/reference.md say what the code does."""

import re

from app.db import Base
from tests.repo.documents import PARTS, REFERENCE, rendered
from tests.repo.sources import PACKAGES, ROOT, sources

README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = REFERENCE.read_text(encoding="utf-8")
DECISIONS = ROOT / "deploy" / "decisions"
README_LINES_MAX = 180


def test_the_generated_parts_are_fresh():
    assert rendered(TEXT) == TEXT


def test_every_generated_part_is_there():
    for name in PARTS:
        assert f"<!-- {name} -->" in TEXT


def test_the_tree_names_every_folder_and_no_other():
    """Each folder has one line in the README's tree, and each line a folder."""
    tree = README.split("## Where things are", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    named = set()
    stack: list[str] = []
    for line in tree.splitlines():
        match = re.match(r"(?P<indent> *)(?P<name>[\w.]+)/ +\S", line)
        if match:
            stack = [*stack[: len(match["indent"]) // 2], match["name"]]
            named.add("/".join(stack))
    wanted = {str(path.parent) for path in sources() if path.name == "__init__.py"}
    assert {name for name in named if name.partition("/")[0] in PACKAGES} == wanted
    assert all((ROOT / name).is_dir() for name in named)


def test_every_word_of_the_glossary_is_a_class_of_that_name():
    """One word, one meaning: each word of the glossary is a class of the code."""
    glossary = TEXT.split("## Words", 1)[1]
    words = re.findall(r"^\| \*\*(\w+)\*\* \| `([\w.]+)` \|", glossary, flags=re.MULTILINE)
    assert len(words) >= 20
    for word, place in words:
        module, _, name = place.rpartition(".")
        defined = getattr(__import__(module, fromlist=[name]), name, None)
        assert defined is not None, word
    assert Base.metadata is not None


def test_the_readme_stays_short():
    assert README.count("\n") <= README_LINES_MAX


def test_the_index_names_every_decision_with_its_title_and_status():
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    rows = set(
        re.findall(r"^\| \[(\d{4})\]\(([\w.-]+)\) \| (.+?) \| (in force|replaced by \d{4}) \|$", index, re.MULTILINE)
    )
    titles = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in DECISIONS.glob("[0-9]*.md")}
    assert {name: f"# {number}. {title}" for number, name, title, _ in rows} == titles


def test_links_between_documents_lead_somewhere():
    documents = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / ".github").glob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in documents
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8"))
        if not (path.parent / target).exists()
    ]
    assert not broken
