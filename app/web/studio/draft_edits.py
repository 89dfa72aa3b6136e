"""The storyboard's buttons: add, move and remove a shot, restore a removed one, and add a word to a prompt."""

import re
from dataclasses import replace

from app.catalog.models import VideoModel
from app.parsing import parse_integer
from app.web.studio.draft import SHOTS_MAX, Draft, RemovedShot, ShotDraft


def edit_draft(draft: Draft, action: str, *, model: VideoModel | None = None) -> Draft:
    """Apply a button to a draft: `add`, `remove:2`, `restore`, `up:2`, `down:0`, `word:0:bounces`, `redraw`.

    `model` is the one whose words are offered. Unknown actions change nothing. A removed shot can be restored until
    another button is used.
    """
    verb, _, rest = action.partition(":")
    where, _, word = rest.partition(":")
    row = parse_integer(where)
    if row is not None and row >= len(draft.shots):
        row = None
    if verb == "redraw":
        return draft
    if verb == "restore":
        return _restore(draft)
    if verb == "remove" and row is not None and len(draft.shots) > 1:
        return _remove(draft, row)
    if verb == "word" and row is not None and model is not None:
        return _toggle_word(draft, row, word, model)
    return replace(draft, shots=_arranged(draft, verb, row), removed=None)


def toggled(prompt: str, word: str, *, separator: str) -> str:
    """Return a prompt with a word or phrase added at its end, or without the last one where it is there already."""
    last = _last_match(prompt, word)
    if last is None:
        bare = _trimmed(prompt)
        return f"{bare}{separator}{word}" if bare else word
    return _trimmed(re.sub(r"[\s,]+\Z", "", prompt[: last.start()]) + prompt[last.end() :])


def has_word(prompt: str, word: str) -> bool:
    """Return whether a prompt has a word or phrase that the studio offers."""
    return _last_match(prompt, word) is not None


def _last_match(prompt: str, word: str) -> re.Match[str] | None:
    """Return where a word or phrase stands last, as whole words. understood.js has the same rule."""
    phrase = r"\s+".join(re.escape(part) for part in word.split())
    matches = list(re.finditer(rf"(?<![\w-]){phrase}(?![\w-])", prompt))
    return matches[-1] if matches else None


def _trimmed(prompt: str) -> str:
    return re.sub(r"\A[\s,]+|[\s,]+\Z", "", prompt)


def word_separator(model: VideoModel) -> str:
    """Return what stands between a prompt and a word that is added: the demo model reads plain sentences."""
    return " " if model.vocabulary == "demo" else ", "


def _arranged(draft: Draft, verb: str, row: int | None) -> tuple[ShotDraft, ...]:
    shots = list(draft.shots)
    if verb == "add" and len(shots) < SHOTS_MAX:
        shots.append(ShotDraft(seconds=shots[-1].seconds if shots else 5))
    elif verb == "up" and row:
        shots[row - 1], shots[row] = shots[row], shots[row - 1]
    elif verb == "down" and row is not None and row + 1 < len(shots):
        shots[row + 1], shots[row] = shots[row], shots[row + 1]
    return tuple(shots)


def _remove(draft: Draft, row: int) -> Draft:
    shots = list(draft.shots)
    removed = RemovedShot(shots.pop(row), row)
    return replace(draft, shots=tuple(shots), removed=removed)


def _restore(draft: Draft) -> Draft:
    if draft.removed is None or len(draft.shots) >= SHOTS_MAX:
        return draft
    shots = list(draft.shots)
    shots.insert(draft.removed.row, draft.removed.shot)
    return replace(draft, shots=tuple(shots), removed=None)


def _toggle_word(draft: Draft, row: int, word: str, model: VideoModel) -> Draft:
    if not any(word in words for words in model.prompt_words.values()):
        return draft
    shots = list(draft.shots)
    prompt = toggled(shots[row].prompt, word, separator=word_separator(model))
    shots[row] = replace(shots[row], prompt=prompt)
    return replace(draft, shots=tuple(shots))
