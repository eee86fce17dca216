"""From a federation's last sum to a model that an auditor accepts."""

from datetime import UTC, datetime
from pathlib import Path

from coordinator.release import TrainedModel, release_model
from coordinator.verify import verify_registry
from protocols.release import verify_release
from tests.federation.federation import Federation, make_plan


def test_model_of_a_whole_run_passes_the_audit(tmp_path: Path) -> None:
    federation = Federation(tmp_path, make_plan())
    done = federation.run()
    trained = TrainedModel(done.run, done.state, done.transcript_sha256, done.threshold, done.colluding)
    identity, now = federation.operator_identity, datetime(2030, 1, 1, tzinfo=UTC)
    version = release_model(federation.registry, federation.plan, trained, identity=identity, models=tmp_path / "models", now=now)
    audit = verify_registry(federation.registry, tmp_path / "models")
    federation.close()
    assert audit.failed == []
    assert verify_release(tmp_path / "models" / version.path, identity.public_key)["round"] == federation.plan.rounds
