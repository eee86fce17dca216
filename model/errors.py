"""Errors of the network; each text is one sentence that says what is wrong, where, and what to do."""

from __future__ import annotations


class ModelError(Exception):
    """Base of every error that the model package raises for a user's mistake."""


class ConfigError(ModelError):
    """A configuration that is not DeepSeek-V3's, or asks for what is not supported."""


class CheckpointError(ModelError):
    """A checkpoint that does not fit: a missing, extra, misshapen or truncated tensor."""


class DeviceError(ModelError):
    """A device that PyTorch does not see here."""


class GenerationError(ModelError):
    """A way of generating that the network or the other settings do not allow."""


class TokenizerError(ModelError):
    """A tokenizer that cannot be read or does not belong to the checkpoint."""


class BaseError(ModelError):
    """A bundled base that does not exist."""


class RecipeError(ModelError):
    """A pretraining recipe that cannot be followed: a field, its data or its result is not what it says."""


class ReleaseError(ModelError):
    """A released model that cannot be used: a changed file, or a base that is not its own."""
