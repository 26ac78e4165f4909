"""docs/your-data.md is a script: its blocks run on a tiny folder, and its tables are what `compare` prints of its records."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from experiments.compare import as_text
from tests.images import smooth_images

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "your-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SMALL = {
    "encode": ["dataset.size=24", "fit.steps=10", "track=off"],
    "train": ["dataset.size=24", "optimizer.epochs=1", "backbone.width=4", "track=off"],
}


def commands(block):
    """Return the verb and the arguments of each command of a block, as a shell would read them."""
    for line in block.replace("\\\n", " ").splitlines():
        python, module, command, *arguments = shlex.split(line, comments=True)
        assert (python, module) == ("python", "-m"), line
        verb = command.removeprefix("experiments.")
        yield verb, [as_text(argument) for argument in arguments] if verb == "compare" else arguments


@pytest.fixture
def houses(tmp_path):
    """Make the page's folder in small: 36 images to train with and 12 to test with, 24 by 30 pixels, in 4 classes."""
    for split, count in {"train": 9, "val": 3}.items():
        for seed, label in enumerate(("bathroom", "bedroom", "frontal", "kitchen")):
            folder = tmp_path / "data" / "houses-256" / split / label
            folder.mkdir(parents=True)
            for number, image in enumerate(smooth_images(count, 24, 30, seed=seed)):
                Image.fromarray(image.numpy()).save(folder / f"{number}.jpg")


def test_every_block_of_the_page_runs(houses, command, tmp_path):
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "your-data.md", "exec"), {})
            continue
        for verb, arguments in commands(block):
            code, _, err = command(verb, *arguments, *SMALL.get(verb, []))
            assert code == 0, err
    assert (tmp_path / "pictures" / "comparison.png").is_file()


def test_the_tables_of_the_page_are_those_of_its_records(command):
    shell = "".join(block for language, block in BLOCKS if language == "bash")
    tables = [arguments for verb, arguments in commands(shell) if verb == "compare"]
    assert len(tables) == 3
    for arguments in tables:
        code, out, err = command("compare", *arguments, f"root={DOCS / 'your-data'}")
        assert code == 0, err
        assert f"\n{out.strip()}\n" in PAGE
