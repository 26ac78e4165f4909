"""Nothing in a file that a user is given can run code: no pickle, no eval, no unsafe YAML, no class that a config names."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from experiments.reporting import runs

ROOT = Path(__file__).parents[1]
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load", "hydra.utils.instantiate", "instantiate",
    "hydra.utils.call", "os.system", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "pandas.read_pickle",
}  # fmt: skip
SAFE_LOADERS = {"_Loader", "yaml.SafeLoader", "yaml.CSafeLoader"}


def faults_of(text: str) -> Iterator[str]:
    """Yield what a source does that could run a stranger's code."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (f"line {node.lineno}: imports {name}" for name in names if name.partition(".")[0] in FORBIDDEN_IMPORTS)
        if isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {fault}" for fault in _faults_of_call(node))


def _faults_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in FORBIDDEN_CALLS and not (name == "torch.load" and given.get("weights_only") == "True"):
        yield f"calls {name}"
    if name == "yaml.load" and given.get("Loader") not in SAFE_LOADERS:
        yield "calls yaml.load without a safe loader"
    if name.endswith("np.load") and given.get("allow_pickle", "False") != "False":
        yield "lets numpy read pickles"
    if given.get("shell") == "True":
        yield "starts a shell"


def test_nothing_that_is_read_can_run_code():
    paths = [path for folder in ("kernels", "rapid_inr", "experiments") for path in (ROOT / folder).rglob("*.py")]
    faults = [f"{path.relative_to(ROOT)}, {fault}" for path in paths for fault in faults_of(path.read_text(encoding="utf-8"))]
    assert len(paths) > 100
    assert faults == []


def test_the_loaders_that_count_as_safe_are_safe():
    assert issubclass(runs._Loader, yaml.SafeLoader | yaml.CSafeLoader)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "eval(x)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "yaml.load(t, Loader=yaml.Loader)",
        "np.load(p, allow_pickle=True)",
        "hydra.utils.instantiate(cfg)",
        "subprocess.run(c, shell=True)",
    ],
)
def test_each_way_to_run_code_is_noticed(text):
    assert list(faults_of(text))
