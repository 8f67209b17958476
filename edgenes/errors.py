"""The errors a user can act on: each message says what was expected, what came and what to do."""


class EdgeNESError(Exception):
    """Base of all errors that EdgeNES raises on purpose; scripts print its message without a traceback.

    Example:
        >>> from edgenes import EdgeNESError, load_data
        >>> try:
        ...     load_data("nowhere")
        ... except EdgeNESError as error:
        ...     print(type(error).__name__)
        DataError
    """


class ConfigError(EdgeNESError, ValueError):
    """A setting is out of range, unknown, or contradicts another one."""


class DataError(EdgeNESError, ValueError):
    """A data set is missing, malformed, or too small for what was asked of it."""


class CheckpointError(EdgeNESError):
    """A file of a study is missing, truncated, altered, or of another format."""


class FormatError(CheckpointError):
    """A whole file, in the format of another version."""


class WriteError(CheckpointError):
    """A file of a study could not be written: the disk is full, or the folder read-only; what was there is whole."""


class DivergedError(EdgeNESError, ArithmeticError):
    """A loss became NaN or infinite during training."""


class OutOfMemoryError(EdgeNESError, MemoryError):
    """Memory ran out, with half the batch too."""
