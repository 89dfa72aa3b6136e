"""The lines of a price in words, in English and in Chinese.

A line stores its key and its facts, never the sentence: so a receipt replays byte for byte after a sentence was
improved, and one receipt reads in both languages.
"""

from collections.abc import Mapping
from fractions import Fraction

from pricing.exact import exact_number
from pricing.rate_key import DEFAULT_MODE, RateKey, RatePattern

SENTENCES: dict[str, dict[str, str]] = {
    "list": {
        "en": "List price: {seconds} s at {per_second} {currency}/s ({model}, {resolution}, {mode})",
        "zh": "目录价：{seconds} 秒 × {per_second} {currency}/秒（{model}，{resolution}，{mode}）",
    },
    "input_seconds": {
        "en": "Video read: {seconds} s at {per_second} {currency}/s",
        "zh": "输入视频：{seconds} 秒 × {per_second} {currency}/秒",
    },
    "free_seconds": {"en": "Free seconds: the first {seconds} s", "zh": "免费时长：前 {seconds} 秒"},
    "contract": {
        "en": "{title_en}: {per_second} {currency}/s instead of the list price",
        "zh": "{title_zh}：以 {per_second} {currency}/秒 代替目录价",
    },
    "membership": {"en": "{title_en} membership (×{factor})", "zh": "{title_zh}会员（×{factor}）"},
    "promotion": {"en": "{title_en} (×{factor})", "zh": "{title_zh}（×{factor}）"},
    "service_tier": {"en": "{title_en} service (×{factor})", "zh": "{title_zh}服务（×{factor}）"},
    "quote_ceiling": {"en": "Never above the quote of {quoted}", "zh": "不高于报价 {quoted}"},
    "total": {"en": "Total", "zh": "合计"},
    "tax_included": {"en": "Tax included", "zh": "含税"},
}

# How a film is made, in words: the short names of modes belong to price books and models.
MODE_LABELS: dict[str, dict[str, str]] = {
    "t2v": {"en": "from text", "zh": "文生视频"},
    "i2v": {"en": "from a picture", "zh": "图生视频"},
    "v2v": {"en": "from a video", "zh": "视频转视频"},
    "edit": {"en": "edit of a video", "zh": "视频编辑"},
    "extend": {"en": "extension of a video", "zh": "视频延长"},
}


def mode_words(mode: str, language: str) -> str:
    """Return a mode in words, in `en` or `zh`; one without an entry is returned as it is."""
    return MODE_LABELS.get(mode, {}).get(language, mode)


def key_label(key: RateKey) -> str:
    """Return a short English name: the resolution, then every other dimension that is not the default."""
    parts = [key.resolution]
    parts += [] if key.model == "any" else [key.model]
    parts += [] if key.mode == DEFAULT_MODE else [key.mode]
    parts += ["with sound"] if key.audio else []
    return ", ".join(parts)


def pattern_label(pattern: RatePattern) -> str:
    """Return in English the dimensions that a pattern selects by, except the model."""
    parts = [each for each in (pattern.resolution, mode_words(pattern.mode, "en")) if each != "*"]
    parts += [] if pattern.audio is None else ["with sound" if pattern.audio else "without sound"]
    return ", ".join(parts)


def label_text(key: str, facts: Mapping[str, str], language: str) -> str:
    """Return the sentence of a line key in `en` or `zh`. Raises KeyError for an unknown key or language."""
    return SENTENCES[key][language].format_map({name: _readable(name, text, language) for name, text in facts.items()})


def _readable(name: str, text: str, language: str) -> str:
    """Show a rate with at least two decimals, seconds that do not end with three, and a mode in words.

    The exact fact stays stored.
    """
    if name == "mode":
        return mode_words(text, language)
    if name == "per_second" and "/" not in text:
        whole, _, part = text.partition(".")
        return f"{whole}.{part.ljust(2, '0')}"
    if name == "seconds" and "/" in text:
        number: Fraction = exact_number(text)
        thousandths = round(number * 1000)
        return f"{thousandths // 1000}.{thousandths % 1000:03d}"
    return text
