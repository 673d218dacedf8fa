"""What the user sees when something is wrong: where, what was expected, what was found, what to do next."""

from __future__ import annotations


class FxqError(Exception):
    """An error in what the user gave us. Each one says all four things, so none can be forgotten.

    Args:
        where: the node, file or field the error is about.
        expected: what fxq needs there.
        found: what is there.
        remedy: what to do next.
    """

    def __init__(self, where: str, *, expected: str, found: str, remedy: str) -> None:
        self.where = where
        self.expected = expected
        self.found = found
        self.remedy = remedy
        super().__init__(f"{where}\n  expected: {expected}\n  found:    {found}\n  do:       {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.where, self.expected, self.found, self.remedy)


def _rebuild(kind: type[FxqError], where: str, expected: str, found: str, remedy: str) -> FxqError:
    return kind(where, expected=expected, found=found, remedy=remedy)


class CaptureError(FxqError):
    """The model could not be traced, or did not run on its example inputs."""


class ConfigError(FxqError):
    """A QConfig, QConfigMapping or option does not fit the model or the profile."""


class CalibrationError(FxqError):
    """What the observers saw cannot be turned into quantization parameters."""


class StageError(FxqError):
    """A model was given to a function that needs another stage of the compilation."""


class DataError(FxqError):
    """A tensor given at run time does not fit the compiled model."""


class FileError(FxqError):
    """A model cannot be stored in a file, or a file is no model that fxq.save has stored."""


class ExportError(FxqError):
    """The model cannot be written in another format."""
