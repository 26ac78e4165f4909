import pytest
import torch

from rapid_inr.models.resnet import BackboneConfig, build_backbone
from rapid_inr.training.threads import thread_limit, training_threads

CPU = torch.device("cpu")


@pytest.fixture
def three_threads():
    with thread_limit(3):
        yield


def resnet(width):
    return build_backbone(BackboneConfig(width=width), n_classes=10, image_size=(32, 32), seed=0)


@pytest.mark.parametrize(("width", "size", "expected"), [(8, 32, 1), (4, 32, 1), (8, 224, 3), (16, 32, 3)])
def test_a_small_network_takes_one_thread(three_threads, monkeypatch, width, size, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert training_threads(resnet(width), n_pixels=size**2, device=CPU) == expected


def test_a_gpu_leaves_the_threads_of_the_host_alone(three_threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert training_threads(resnet(8), n_pixels=32**2, device=torch.device("cuda")) == 3


def test_the_environment_decides_for_a_small_network_too(three_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert training_threads(resnet(8), n_pixels=32**2, device=CPU) == 3


def test_the_setting_before_comes_back_after_an_error(three_threads):
    def fail():
        assert torch.get_num_threads() == 2
        raise ValueError("within")

    with pytest.raises(ValueError, match="within"), thread_limit(2):
        fail()
    assert torch.get_num_threads() == 3
