"""An invitation: the file that an operator hands to an institution. Whoever holds it may ask to join once, so it is kept secret."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from protocols.commented import quoted
from protocols.errors import ConsortiumError
from protocols.files import write_file
from protocols.names import check_institution_name
from protocols.validation import first_problem


class InvitationFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    institution: str = Field(description="the name that the institution joins under")
    coordinator: str = Field(min_length=1, description="name of the coordinator")
    coordinator_key: str = Field(pattern="^[0-9a-f]{64}$", description="the coordinator's identity key (Ed25519)")
    fence: str = Field(min_length=1, description="host:port to which the SuperNode connects")
    service: str = Field(min_length=1, description="host:port of the registry service")
    expires: str = Field(description="when the invitation ends, in UTC")
    ca: str = Field(min_length=1, description="certificate of the coordinator's authority")
    certificate: str = Field(min_length=1, description="certificate to join with")
    key: str = Field(min_length=1, repr=False, description="its private key: keep it secret until the institution has joined")

    @model_validator(mode="after")
    def _named(self) -> Self:
        check_institution_name(self.institution)
        return self


def invitation_toml(invitation: InvitationFile) -> bytes:
    """The file's text, a description above each key."""
    lines = ["# An invitation to a consortium. It lets its holder ask to join once: keep it secret, and delete it afterwards."]
    for key, field in InvitationFile.model_fields.items():
        lines += [f"# {field.description}", f"{key} = {_written(getattr(invitation, key))}"]
    return "\n".join([*lines, ""]).encode()


def write_invitation(path: Path, invitation: InvitationFile) -> None:
    """Writes the file so that its owner alone can read it (mode 0600)."""
    write_file(path, invitation_toml(invitation), mode=0o600)


def read_invitation(path: Path) -> InvitationFile:
    """Reads an invitation.

    Raises:
        ConsortiumError: the file cannot be read or is none. No part of it is in the text.
    """
    try:
        return InvitationFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise ConsortiumError(f"{path} cannot be read; give the file that the operator sent") from None
    except ValidationError as error:
        raise ConsortiumError(f"{path} is no invitation: {first_problem(error, InvitationFile)}") from None
    except ValueError:
        raise ConsortiumError(f"{path} is no invitation; give the file that the operator sent") from None


def _written(value: str) -> str:
    return f"'''\n{value}'''" if value.startswith("-----BEGIN ") else quoted(value)
