"""Every error that AnyCalo raises on purpose, under one base.

A message says what was found, what was expected and how to mend it, so that the command line can
print it as it stands and leave the traceback out.
"""


class AnyCaloError(Exception):
    """Base of every error raised on purpose by AnyCalo."""


class CommandError(AnyCaloError, ValueError):
    """A command line, or a quantity on it, that cannot be understood."""


class DetectorError(AnyCaloError, ValueError):
    """A detector description that cannot be built: the key, what was found, what is allowed."""


class ShowerFileError(AnyCaloError, ValueError):
    """A shower file that is truncated, foreign or inconsistent."""


class ShowersError(AnyCaloError, ValueError):
    """Shower arrays that contradict one another, or a selection that leaves nothing."""


class ConversionError(AnyCaloError, ValueError):
    """A conversion between file formats that cannot be done as asked."""


class SimulationError(AnyCaloError, RuntimeError):
    """Geant4 is missing, not set up, or stopped in the middle."""


class OutputError(AnyCaloError, OSError):
    """An output path that exists already or cannot be written."""


class ModelError(AnyCaloError, ValueError):
    """A model directory, configuration or request that does not fit."""


class TrainingError(AnyCaloError, RuntimeError):
    """A training run that cannot start, resume or go on."""


class EvaluationError(AnyCaloError, ValueError):
    """Two samples that cannot be compared."""


class DomainWarning(UserWarning):
    """Showers asked for outside the ranges that a model was trained on."""
