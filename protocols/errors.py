"""Errors that a user may read: each text is one sentence saying what is wrong, where, and what to do."""

from __future__ import annotations


class ConsortiumError(Exception):
    """Base of every error of ours; its text is shown as it is, without a traceback."""


class PlanError(ConsortiumError):
    """A plan that cannot be read, or asks for what cannot be honoured."""


class PolicyError(ConsortiumError):
    """A plan or manifest that an institution's own policy does not allow."""
