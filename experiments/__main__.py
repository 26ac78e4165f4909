"""`python -m experiments`: the commands, each with one line."""

from __future__ import annotations

import ast
from pathlib import Path


def commands() -> dict[str, str]:
    """Return what each command does, by its name: a file directly in this folder is a command."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[path.stem] = docstring.partition("\n")[0].partition("`: ")[2].strip()
    return found


if __name__ == "__main__":
    print("python -m experiments.COMMAND [--help] [group=choice] [key=value]\n")
    for name, does in commands().items():
        print(f"  {name:12s} {does}")
