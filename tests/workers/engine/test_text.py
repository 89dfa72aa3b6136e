"""Embeddings: equal to the pipeline's, computed once, cached up to a limit in bytes, and prefetched."""

from concurrent.futures import ThreadPoolExecutor

import torch
from diffusers import WanPipeline

from tests.workers.engine.conftest import TinyWan
from tests.workers.engine.segment_requests import film, request
from tests.workers.engine.tiny_wan import TEXT_LENGTH, tiny_model
from workers.engine.load import load_parts
from workers.engine.text import EmbeddingCache, TextStage
from workers.engine.wan import WanEngine


def stage(tiny_wan: TinyWan, cache: EmbeddingCache | None = None) -> TextStage:
    parts = load_parts(tiny_model("t2v", tiny_wan("t2v")), torch.device("cpu"))
    return TextStage(parts, "tiny", TEXT_LENGTH, cache)


def test_the_embedding_is_the_pipelines(tiny_wan: TinyWan) -> None:
    pipeline = WanPipeline.from_pretrained(tiny_wan("t2v"))
    for text in ("a red circle", "", "  a   red\ncircle &amp; square ", "a " * 40):
        with torch.no_grad():
            expected, _ = pipeline.encode_prompt(
                text, do_classifier_free_guidance=False, max_sequence_length=TEXT_LENGTH
            )
        assert torch.equal(stage(tiny_wan).encode(text)[0], expected)


def test_equal_texts_are_encoded_once(tiny_wan: TinyWan) -> None:
    text = stage(tiny_wan)
    first, known = text.encode("a  red circle")
    assert not known
    again, known = text.encode(" a red circle ")
    assert again is first
    assert known


def test_models_and_lengths_do_not_share_embeddings(tiny_wan: TinyWan) -> None:
    cache = EmbeddingCache()
    parts = stage(tiny_wan).parts
    for model, length in (("one", 12), ("two", 12), ("one", 16)):
        assert TextStage(parts, model, length, cache).encode("a red circle")[0].shape == (1, length, 32)
    assert len(cache) == 3


def test_the_cache_is_bounded_in_bytes_and_drops_the_least_recently_used() -> None:
    cache = EmbeddingCache(bytes_max=3 * 400)
    for name in "abc":
        cache.put((name, "", 1), torch.zeros(100))
    assert cache.get(("a", "", 1)) is not None
    cache.put(("d", "", 1), torch.zeros(100))
    assert cache.get(("b", "", 1)) is None
    assert cache.get(("a", "", 1)) is not None
    assert cache.bytes_held == 1200
    cache.put(("huge", "", 1), torch.zeros(1000))
    assert cache.get(("huge", "", 1)) is None
    assert len(cache) == 3


def test_many_threads_encode_without_harm(tiny_wan: TinyWan) -> None:
    text = stage(tiny_wan)
    words = [f"a {color} {shape}" for color in ("red", "blue", "grey") for shape in ("circle", "square")]
    alone = [text.encode(each)[0] for each in words]
    other = stage(tiny_wan)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(other.encode, words * 4))
    assert all(torch.equal(one, two) for one, (two, _) in zip(alone * 4, together, strict=True))


def test_a_prefetched_render_finds_its_words(tiny_wan: TinyWan) -> None:
    engine = WanEngine(tiny_model("t2v", tiny_wan("t2v")), "cpu")
    engine.prefetch(request(prompt="a blue square"))
    assert not hasattr(engine, "text"), "a prefetch loads nothing"
    engine.load()
    engine.prefetch(request(prompt="a blue square"))
    engine.text.close()
    film(engine, request(prompt="a blue square"))
    assert engine.meter.text_cache_hits == 2
