"""The model that a worker process has loaded, and the engine for each claim."""

from app.catalog.models import VideoModel, load_catalog
from app.dispatch.claim import Claim
from app.settings import get_settings
from workers.engine import Engine, make_engine
from workers.engine.memory_watchdog import MemoryGrowth
from workers.prefetch import Prefetcher


class EngineCache:
    """Keeps the engine of one model loaded. The engine of another model closes it first."""

    def __init__(self, prefetcher: Prefetcher) -> None:
        self.device = get_settings().device or best_device()
        self.engine: Engine | None = None
        self.model: VideoModel | None = None
        self.growth = MemoryGrowth()
        self._prefetcher = prefetcher

    @property
    def model_id(self) -> str | None:
        """The id of the loaded model."""
        return self.model.id if self.model is not None else None

    def load(self, model: VideoModel) -> Engine:
        """Load a model after closing the loaded one, and return its engine."""
        self.close()
        engine = make_engine(model, self.device)
        engine.load()
        self.engine, self.model = engine, model
        self.growth.reset()
        return engine

    def engine_for(self, claim: Claim) -> Engine:
        """Return the loaded engine of a claim's model."""
        model = model_of(claim)
        if model.architecture is None:
            # It has no weights, so the loaded model stays: a test order must not cost the next customer a load.
            return make_engine(model, self.device)
        if self.engine is not None and self.model_id == model.id:
            return self.engine
        return self.load(model)

    def has_outgrown_memory(self, claim: Claim) -> bool:
        """Return whether the process has grown too large by rendering this claim.

        A take of a model that is not the loaded one says nothing about the size of the loaded one.
        """
        is_loaded = self.model is None or self.model.id == model_of(claim).id
        return is_loaded and self.growth.is_too_large()

    def close(self) -> None:
        """Release the loaded model, after the prefetch that may use it."""
        if self.engine is not None:
            self._prefetcher.wait()
            self.engine.close()
            self.engine, self.model = None, None


def model_of(claim: Claim) -> VideoModel:
    """Return the model that renders a claim: a test key's job names the model it asked for, but gets colour bars."""
    catalog = load_catalog(get_settings().catalog_dir)
    return catalog["synthetic" if claim.pool == "synthetic" else claim.model]


def best_device() -> str:
    """Return the first CUDA device, or the CPU where there is none or torch is not installed."""
    try:
        from workers.engine.load import first_device
    except ImportError:
        return "cpu"
    return first_device()
