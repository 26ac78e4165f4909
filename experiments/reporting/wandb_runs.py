"""Read the runs of a W&B project from its server, in the form of `read_runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.reporting.runs import run_row
from rapid_inr.errors import UserError

SCHEME = "wandb:"
STATUSES = {"killed": "interrupted", "preempted": "interrupted"}  # W&B's words that differ from ours
TIMEOUT_S = 60


def read_wandb(root: str) -> pd.DataFrame:
    """Read the runs of ``wandb:ENTITY/PROJECT``.

    Raises:
        UserError: if the root has another form, W&B is not installed, or the server does not answer.
    """
    project = root.removeprefix(SCHEME)
    if project.count("/") != 1 or not all(project.split("/")):
        raise UserError(f"root is {root}, expected {SCHEME}ENTITY/PROJECT")
    try:
        import wandb

        rows = [_row(run) for run in wandb.Api(timeout=TIMEOUT_S).runs(project, per_page=200)]
    except ImportError:
        raise UserError(f"root={root} needs W&B: pip install wandb") from None
    except (wandb.Error, ValueError) as error:
        raise UserError(f"W&B has not given the runs of {project}: {str(error).rstrip('.')}") from None
    if not rows:
        raise UserError(f"{root} has no runs")
    return pd.DataFrame(rows)


def _row(run: Any) -> dict[str, Any]:
    """Return a run's row. For a run that this code mirrored, ``origin`` has what its record says."""
    config = dict(run.config or {})
    origin = {"verb": run.job_type or "run", "started": run.created_at, "commit": run.commit} | (config.pop("origin", None) or {})
    record = origin | {"metrics": _own(getattr(run.summary, "_json_dict", None) or dict(run.summary))}
    config = {key: value for key, value in config.items() if key != "_wandb"}
    return run_row(run.name, None, config, record, status=STATUSES.get(run.state, run.state))


def _own(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run itself logged, without W&B's counters, media and units."""
    return {key: value for key, value in values.items() if key[0] != "_" and not isinstance(value, Mapping)}
