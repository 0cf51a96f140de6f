"""Errors that a user can act on. Each message says where, what was wrong and what is allowed."""

from __future__ import annotations


class AcclimateError(Exception):
    """Base of every error that is the input's or the environment's fault, not ours."""


class ConfigError(AcclimateError):
    """params.yaml or a command line is wrong."""


class DataError(AcclimateError):
    """A file or a table is wrong."""


class ModelError(AcclimateError):
    """A model is missing, changed or unfit for what was asked of it."""


class TrainingError(AcclimateError):
    """Training cannot go on: the loss is not finite, a checkpoint does not fit, and the like."""


class EnvironmentUnfitError(AcclimateError):
    """The machine lacks something: disk, a driver, a program, a service."""


class GateError(AcclimateError):
    """A gate of params.yaml does not hold where the caller asked for it to hold."""


class LostProcessError(AcclimateError):
    """Another process of this run ended; it or its launcher says why."""
