"""Small datasets in the official layouts, and where real ones are found."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def real_data():
    """Return a function: name -> folder of that real dataset; skips the test where there is none."""

    def find(name: str) -> Path:
        base = os.environ.get("RAPID_INR_DATA")
        if not base:
            pytest.skip("RAPID_INR_DATA names no folder of real datasets")
        folder = Path(base, name)
        if not folder.exists():
            pytest.skip(f"{folder} does not exist")
        return folder

    return find


@pytest.fixture
def write_cifar():
    """Return a function that writes a file of CIFAR records and returns their images, uint8 [n, 32, 32, 3]."""

    def write(path: Path, labels: list[int], *, coarse: list[int] | None = None, seed: int = 0) -> np.ndarray:
        images = np.random.default_rng(seed).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            for i, label in enumerate(labels):
                file.write(bytes([label] if coarse is None else [coarse[i], label]))
                for channel in range(3):
                    file.write(images[i, :, :, channel].tobytes())
        return images

    return write


@pytest.fixture
def tiny_cifar10(tmp_path, write_cifar):
    """Write CIFAR-10 with two images a training batch and four to test; return root and images in the order of "all"."""
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    batches = [write_cifar(folder / f"data_batch_{i}.bin", [i, i + 1], seed=i) for i in range(1, 6)]
    batches.append(write_cifar(folder / "test_batch.bin", [9, 8, 7, 6], seed=6))
    return folder.parent, np.concatenate(batches)


@pytest.fixture
def write_image():
    """Return a function that writes a picture of one colour."""

    def write(path: Path, colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (8, 8)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(path)

    return write
