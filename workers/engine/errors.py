"""The errors that end a render."""


class EngineError(Exception):
    """A render ended without its frames; the process may render the next one."""


class Stopped(EngineError):
    """The render was stopped on request (cancel, drain, lost lease); nothing is wrong."""


class ModelRefused(EngineError):
    """The request is outside what this model can do, such as a first frame of another size."""


class BadFrames(EngineError):
    """The model made pictures that hold NaN; in a film they would be black or noise."""


class DoesNotFit(EngineError):
    """The predicted peak memory of the request is above the memory of the device; it was refused before it began."""


class OutOfMemory(EngineError):
    """Memory ran out in the middle; all state was reset and the self-test passed."""


class EnginePoisoned(EngineError):
    """The process failed its self-test after an error. It must be replaced before it renders for anybody else."""


class CheckpointRejected(EngineError):
    """A checkpoint file is broken, or belongs to another request, model or shape."""
