"""The choices of a command line, read from configs/ without importing torch, so that listing them is fast."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def read_command(verb: str) -> dict[str, Any]:
    """Return the YAML file of a command."""
    return yaml.safe_load((CONFIGS / f"{verb}.yaml").read_text(encoding="utf-8"))


def groups_of(verb: str) -> dict[str, str | None]:
    """Return the config groups of a command, each with its default."""
    entries = [entry for entry in read_command(verb)["defaults"] if isinstance(entry, dict)]
    return {group: choice for entry in entries for group, choice in entry.items() if not group.startswith("override ")}


def choices_of(verb: str, group: str) -> list[str]:
    """Return the choices of a command's config group; ``inr`` takes any DEPTHxWIDTH besides."""
    if group == "experiment":
        return experiment_names(verb)
    paths = (CONFIGS / group).glob("*/*.yaml" if group == "search" else "*.yaml")
    return sorted(path.relative_to(CONFIGS / group).with_suffix("").as_posix() for path in paths)


def command_of(experiment: str) -> str | None:
    """Return the command that ``experiment=NAME/PRESET`` is for, or None where configs/ does not say."""
    path = CONFIGS / "experiment" / experiment.partition("/")[0] / "paper.yaml"
    if not path.is_file():
        return None
    command = re.search(r"^command: *(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)  # parsing as YAML is slow
    return command and command[1]


def experiment_names(verb: str | None = None) -> list[str]:
    """Return NAME/PRESET of all experiments, or of those that a command can run."""
    paths = sorted((CONFIGS / "experiment").glob("*/*.yaml"))
    names = [f"{path.parent.name}/{path.stem}" for path in paths]
    return [name for name in names if verb in (None, command_of(name))]
