"""The registry: SQLAlchemy tables, their migrations, and `Registry`, whose methods are its only way in."""

from coordinator.registry.registry import Registry

__all__ = ["Registry"]
