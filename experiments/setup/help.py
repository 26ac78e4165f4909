"""The ``--help`` of a command: its choices and its keys, each with the comment of its YAML file or its docstring."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from experiments.setup.choices import CONFIGS, choices_of, groups_of, read_command
from experiments.setup.config_store import register
from experiments.setup.schema import SCHEMAS, CommonConfig
from rapid_inr.runlog.differences import flatten

WIDTH, COLUMN = 120, 34  # of a line, and where comments begin
MOST_NAMED = 12  # choices of a group without comments


def help_text(verb: str, overrides: Sequence[str]) -> str:
    """Return the help of a command, with the values that its keys have under some overrides."""
    register(verb)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(verb, list(overrides))
    choices = [line for group, default in groups_of(verb).items() for line in _choices(verb, group, default)]
    values = sorted(flatten(OmegaConf.to_container(cfg)).items(), key=lambda item: _is_common(item[0]))  # its own keys first
    if verb not in SCHEMAS:  # it starts no run
        values = [(key, value) for key, value in values if not _is_common(key)]
    comments = comments_of(cfg) | dict(re.findall(r"^(\w+):.*?  # (.*)$", _text(f"{verb}.yaml"), re.MULTILINE))
    keys = [_line(f"  {key}={_shown(value)}", comments.get(key, "")) for key, value in values]
    header = read_command(verb)["hydra"]["help"]["header"]
    return "\n".join([header, *(["Choices (group=default):", *choices, ""] if choices else []), "Keys (key=value):", *keys])


def _is_common(key: str) -> bool:
    return key.partition(".")[0] in CommonConfig.__dataclass_fields__


def _choices(verb: str, group: str, default: str | None) -> Iterator[str]:
    """Yield the lines of a group: one a choice where most have a comment, else all in one."""
    comments = {name: _comment_of(f"{group}/{name}.yaml") for name in choices_of(verb, group)}
    if group == "experiment":  # one line for all presets
        comments = {name.replace("paper", "PRESET"): text for name, text in comments.items() if name.endswith("/paper")}
    heading = f"  {group}={'null' if default is None else default}" + "  (any DEPTHxWIDTH)" * (group == "inr")
    if sum(map(bool, comments.values())) > len(comments) / 2:
        yield heading
        yield from (_line(f"    {name}", comment) for name, comment in comments.items())
    elif comments:
        more = f", ... ({len(comments)} in configs/{group})" if len(comments) > MOST_NAMED else ""
        yield _line(heading, ", ".join(list(comments)[:MOST_NAMED]) + more)


def comments_of(cfg: DictConfig, prefix: str = "") -> dict[str, str]:
    """Return what the docstrings of a configuration's dataclasses say of their fields, by dotted name."""
    comments: dict[str, str] = {}
    for config in reversed(OmegaConf.get_type(cfg).__mro__):
        _, _, fields = (inspect.getdoc(config) or "").partition("Args:\n")
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", fields, re.MULTILINE):
            comments[prefix + name] = " ".join(text.split()).replace("``", "`")
    for key in cfg:
        if isinstance(node := cfg._get_node(key), DictConfig) and OmegaConf.get_type(node) is not dict:
            comments |= comments_of(node, f"{prefix}{key}.")
    return comments


def _comment_of(file: str) -> str:
    """Return the first line of the comment at the top of a file of configs/."""
    return next((line[2:] for line in _text(file).splitlines() if line.startswith("# ") and "@package" not in line), "")


def _text(file: str) -> str:
    return (CONFIGS / file).read_text(encoding="utf-8")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _line(name: str, comment: str) -> str:
    """Return a name and its comment in two columns."""
    if not comment:
        return name
    options = {"width": WIDTH, "subsequent_indent": " " * COLUMN, "break_on_hyphens": False, "break_long_words": False}
    if len(name) > COLUMN - 2:
        return f"{name}\n{textwrap.fill(comment, initial_indent=' ' * COLUMN, **options)}"
    return textwrap.fill(comment, initial_indent=name.ljust(COLUMN), **options)
