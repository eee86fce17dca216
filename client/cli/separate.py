"""`consortium client separate FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.cli.ledger import InstitutionOption, check_folder, told

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to write; give it to the user who runs the SuperNode.")]


def separate(folder: FolderArgument, institution: InstitutionOption = None) -> None:
    """Write the folder of a SuperNode that runs as another user or in another container: the files that it needs, and no others."""
    from client.running import separate_supernode

    own = institution or Path()
    with told(as_json=False):
        check_folder(own)
        separate_supernode(own, folder)
    typer.echo(f"{folder} is for `consortium client supernode --institution {folder}`; it holds neither records nor the identity key.")
