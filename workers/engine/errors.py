"""What can end a render other than its last frame."""


class EngineError(Exception):
    """A render ended without its frames; the process is sound and may take the next one."""


class Stopped(EngineError):
    """The render was stopped on request (cancel, drain, lost lease); nothing is wrong."""


class ModelRefused(EngineError):
    """The request asks what this model cannot do, such as a first frame of another size."""


class DoesNotFit(EngineError):
    """The predicted peak memory of the request is above what the device has; it was refused before it began."""


class OutOfMemory(EngineError):
    """Memory ran out in the middle; all state was reset and the canary proved the process sound."""


class EnginePoisoned(EngineError):
    """The process failed its canary after an error. It must be replaced before it renders for anybody else."""


class CheckpointRejected(EngineError):
    """A checkpoint file is broken, or was written for another request, model or shape."""
