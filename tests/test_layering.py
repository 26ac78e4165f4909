"""Imports point downwards, heavy libraries have one door each, and importing does nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernels", "rapid_inr", "experiments")

# A package may import packages of a lower rank, and its own modules. The longest name that fits is a module's package.
RANKS = {
    "kernels": 0,
    "rapid_inr.errors": 0,
    "rapid_inr.files": 0,
    "rapid_inr.memory": 0,
    "rapid_inr.evaluation": 1,
    "rapid_inr.inr": 3,
    "rapid_inr.models": 3,
    "rapid_inr.runlog": 2,
    "rapid_inr.data": 3,
    "rapid_inr.augment": 4,
    "rapid_inr.plots": 3,
    "rapid_inr.compress": 4,
    "rapid_inr.cosine": 4,
    "rapid_inr.store": 5,
    "rapid_inr.encoding": 6,
    "rapid_inr.pipelines": 6,
    "rapid_inr.training": 7,
    "rapid_inr": 8,  # the package itself: the public API
    "experiments": 9,
}

# Who alone may import a library, as folders and files.
DOORS = {
    "triton": ("kernels/",),
    "hydra": ("experiments/",),
    "omegaconf": ("experiments/",),
    "pandas": ("experiments/",),
    "optuna": ("experiments/search.py",),
    "wandb": ("rapid_inr/runlog/wandb_mirror.py", "experiments/reporting/wandb_runs.py"),
    "matplotlib": ("rapid_inr/plots/", "experiments/search.py"),  # Optuna draws by it
    "rich.progress": ("rapid_inr/runlog/progress.py", "rapid_inr/data/download.py"),  # one counts work, the other bytes
    "scipy": ("rapid_inr/data/flowers.py", "experiments/reporting/"),  # one reads a file, the others test means
    "nvidia.dali": ("rapid_inr/pipelines/dali.py",),
    "torchvision": ("rapid_inr/pipelines/nvjpeg.py", "experiments/benchmarks/rivals.py"),  # the one trains, the other is timed
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(text: str) -> Iterator[str]:
    """Yield the full name of everything a source imports, inside functions too: ``a.b`` of ``from a import b``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides which unit it takes"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, whole: str) -> bool:
    return name == whole or name.startswith(whole + ".")


def unit_of(name: str) -> str | None:
    """Return the unit that a name belongs to, or None for a name that is not ours."""
    return max((unit for unit in RANKS if is_within(name, unit)), key=len, default=None)


def upward_imports(module: str, text: str) -> list[str]:
    """Return the imports of a module that do not point downwards."""
    own = unit_of(module)
    units = {name: unit_of(name) for name in imported_names(text)}
    return [name for name, unit in units.items() if unit not in (None, own) and RANKS[unit] >= RANKS[own]]


def forced_doors(path: str, text: str) -> list[str]:
    """Return the imports of a file that are another's to make."""
    names = list(imported_names(text))
    return [
        name
        for library, doors in DOORS.items()
        for name in names
        if is_within(name, library) and not any(path == door or (door.endswith("/") and path.startswith(door)) for door in doors)
    ]


def test_every_module_has_a_rank():
    modules = {module_name(path) for path in sources()}
    unranked = {module for module in modules if module != "rapid_inr" and unit_of(module) in (None, "rapid_inr")}
    assert not unranked, f"give these a rank: {unranked}"


def test_imports_point_downwards():
    found = {module_name(path): upward_imports(module_name(path), path.read_text(encoding="utf-8")) for path in sources()}
    assert not {module: names for module, names in found.items() if names}


def test_a_library_is_imported_behind_its_own_door():
    names = [path.relative_to(ROOT).as_posix() for path in sources()]
    found = {name: forced_doors(name, (ROOT / name).read_text(encoding="utf-8")) for name in names}
    assert not {name: imports for name, imports in found.items() if imports}


def test_an_import_that_points_upwards_would_be_found():
    assert upward_imports("rapid_inr.evaluation.metrics", "from rapid_inr.data import source")
    assert upward_imports("rapid_inr.data.cifar", "import rapid_inr.store.format")
    assert upward_imports("rapid_inr.store.packed", "from rapid_inr import fit")
    assert upward_imports("rapid_inr.inr.fit", "def later():\n    from rapid_inr.training.loop import train")
    assert upward_imports("kernels.spec", "import rapid_inr.evaluation.metrics as m")
    assert upward_imports("rapid_inr.training.loop", "from experiments.setup.build import plain")
    assert not upward_imports(
        "rapid_inr.data.cifar", "import torch\nfrom rapid_inr.data.source import limit\nimport kernels.checks"
    )
    assert not upward_imports("experiments.train", "from rapid_inr.training.loop import train\nimport experiments.setup.cli")


def test_an_import_by_the_wrong_door_would_be_found():
    assert forced_doors("rapid_inr/store/decode.py", "import triton.language as tl")
    assert forced_doors("rapid_inr/inr/fit.py", "from omegaconf import DictConfig")
    assert forced_doors("rapid_inr/training/loop.py", "def log():\n    import wandb")
    assert forced_doors("experiments/tables.py", "from matplotlib import pyplot")
    assert forced_doors("experiments/encode.py", "from rich import progress")
    assert forced_doors("rapid_inr/pipelines/dataloader.py", "from nvidia import dali")


IMPORT_ALL = """
import socket, sys

forbidden = []

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.mkdir", "os.remove", "os.rename"):
        forbidden.append((event, str(arguments)))
    elif event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        forbidden.append((event, str(arguments)))

import numpy, torch, triton, hydra, safetensors.torch, PIL.Image, rich.progress  # what these do is not ours
sys.addaudithook(watch)
for module in sys.argv[1:]:
    __import__(module)
assert not forbidden, forbidden
assert not torch.cuda.is_initialized()
late = [name for name in ("wandb", "matplotlib", "scipy", "nvidia", "torchvision", "optuna") if name in sys.modules]
assert not late, late
"""


def test_importing_everything_touches_neither_disk_nor_network_nor_gpu():
    modules = [module_name(path) for path in sources()]
    done = subprocess.run([sys.executable, "-B", "-c", IMPORT_ALL, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_library_does_without_what_the_commands_need():
    modules = [module_name(path) for path in sources() if not module_name(path).startswith("experiments")]
    script = "import sys\nfor m in sys.argv[1:]: __import__(m)\nassert not {'hydra', 'omegaconf', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-B", "-c", script, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
