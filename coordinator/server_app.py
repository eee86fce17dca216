"""The Flower ServerApp: runs the plan of a prepared folder over Flower's grid, with the same `run_plan` as everything else."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coordinator.exchange import Exchange
from coordinator.home import open_home
from coordinator.job import Operator, run_plan
from coordinator.members import constant
from coordinator.registry.registry import Registry
from model.layout import Adaptation, AdapterConfig

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]  # flwr does not say what it returns
def main(grid: Grid, context: Context) -> None:
    """Run configuration: `home`, a folder that `coordinator.home.write_home` prepared."""
    home = open_home(Path(str(context.run_config["home"])))
    adaptation = Adaptation(home.config, AdapterConfig.from_fields(home.plan.adapter_fields), home.plan.seed)
    registry = Registry.open(str(home.folder / "registry.db"), lambda: datetime.now(UTC))
    try:
        operator = Operator(home.identity, constant(home.roster), os.urandom)
        run_plan(home.plan, Exchange(grid), registry, adaptation=adaptation, operator=operator, directory=home.folder / "runs")
    finally:
        registry.close()
