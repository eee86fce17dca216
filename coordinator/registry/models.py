"""Released models: whose rounds they contain, and which were withdrawn."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from coordinator.errors import RegistryError
from coordinator.registry.bodies import model_version_body
from coordinator.registry.conversion import model_version_of
from coordinator.registry.participants import participant_row
from coordinator.registry.reading import read_rows
from coordinator.registry.records import ModelVersion
from coordinator.registry.runs import run_id, run_row
from coordinator.registry.tables import ContributionRow, ModelVersionRow, RoundRow
from coordinator.registry.transactions import Change, Transactions, reads, writes


class Models(Transactions):
    """The rows of released models; their files are complete before."""

    @writes
    def add_model_version(self, change: Change, version: ModelVersion) -> ModelVersion:
        """Writes the row of a released model, whose files are complete by then."""
        run = run_row(change.session, version.run)
        row = ModelVersionRow(run_id=run.id, run=run, released_at=change.now, withdrawn_reason="", **model_version_body(version))
        change.session.add(row)
        change.append("model-released", run.run, model_version_body(version))
        return model_version_of(row)

    @reads
    def model_versions(self, session: Session, run: str | None = None) -> tuple[ModelVersion, ...]:
        """Released models of all runs, or of one."""
        query = _by_name()
        if run is not None:
            query = query.where(ModelVersionRow.run_id == run_id(session, run))
        return read_rows(session, query, model_version_of)

    @reads
    def models_with(self, session: Session, institution: str) -> tuple[ModelVersion, ...]:
        """Versions whose rounds contain an update of this institution; raises RegistryError if it is unknown."""
        who = participant_row(session, institution)
        rounds = select(RoundRow.run_id).join(ContributionRow)
        summed = rounds.where(ContributionRow.participant_id == who.id, ContributionRow.missing_from.is_(None))
        return read_rows(session, _by_name().where(ModelVersionRow.run_id.in_(summed)), model_version_of)

    @writes
    def withdraw_model(self, change: Change, name: str, version: int, reason: str) -> ModelVersion:
        """Marks a version as withdrawn; its files stay, and what was copied cannot be called back.

        Raises:
            RegistryError: there is no such version, or it was withdrawn before.
        """
        query = _by_name().where(ModelVersionRow.name == name, ModelVersionRow.version == version)
        row = change.session.scalars(query).first()
        if row is None or row.withdrawn_at is not None:
            fault = "there is no" if row is None else "withdrawn before is"
            raise RegistryError(f"{fault} model {name} {version}; `consortium coordinator models` lists them")
        row.withdrawn_at, row.withdrawn_reason = change.now, reason
        change.append("model-withdrawn", row.run.run, {"name": name, "version": version, "reason": reason})
        return model_version_of(row)


def _by_name() -> Select[ModelVersionRow]:
    return select(ModelVersionRow).order_by(ModelVersionRow.name, ModelVersionRow.version)
