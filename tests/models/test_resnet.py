import pytest
import torch
from safetensors.torch import save_file

from rapid_inr.models.resnet import BackboneConfig, ResNet18, build_backbone, load_weights

SMALL = BackboneConfig(stem="cifar", width=4)


def torchvision_shapes(*, n_classes: int) -> dict[str, tuple[int, ...]]:
    """Return what `torchvision.models.resnet18().state_dict()` holds, written down from its documentation and files."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        vectors = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
        return vectors | {f"{name}.num_batches_tracked": ()}

    shapes = {"conv1.weight": (64, 3, 7, 7)} | norm("bn1", 64)
    for layer, channels_in, channels in ((1, 64, 64), (2, 64, 128), (3, 128, 256), (4, 256, 512)):
        for block in (0, 1):
            name = f"layer{layer}.{block}"
            shapes[f"{name}.conv1.weight"] = (channels, channels_in if block == 0 else channels, 3, 3)
            shapes[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            shapes |= norm(f"{name}.bn1", channels) | norm(f"{name}.bn2", channels)
        if layer > 1:
            shapes[f"layer{layer}.0.downsample.0.weight"] = (channels, channels_in, 1, 1)
            shapes |= norm(f"layer{layer}.0.downsample.1", channels)
    return shapes | {"fc.weight": (n_classes, 512), "fc.bias": (n_classes,)}


def shapes_of(model: ResNet18) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def small_model(*, n_classes: int = 5, seed: int = 0, config: BackboneConfig = SMALL) -> ResNet18:
    return build_backbone(config, n_classes=n_classes, image_size=(32, 32), seed=seed)


def same_weights(a: ResNet18, b: ResNet18) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture
def weights_file(tmp_path):
    """Return a function that writes the state of a model, changed by `edit`, to a safetensors file."""

    def write(model: ResNet18, edit=lambda state: state):
        path = tmp_path / "weights.safetensors"
        save_file(edit({name: tensor.clone() for name, tensor in model.state_dict().items()}), path)
        return path

    return write


def test_the_names_and_shapes_are_torchvisions():
    assert shapes_of(ResNet18(1000, stem="imagenet")) == torchvision_shapes(n_classes=1000)


def test_the_small_stem_differs_in_its_first_convolution_alone():
    expected = torchvision_shapes(n_classes=10) | {"conv1.weight": (64, 3, 3, 3)}
    assert shapes_of(ResNet18(10, stem="cifar")) == expected


@pytest.mark.parametrize(("stem", "n_classes", "count"), [("imagenet", 1000, 11_689_512), ("cifar", 10, 11_173_962)])
def test_the_number_of_parameters_is_the_known_one(stem, n_classes, count):
    assert sum(p.numel() for p in ResNet18(n_classes, stem=stem).parameters()) == count


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (7, 5), (1, 1)])
def test_any_image_size_gives_one_logit_a_class(stem, size):
    model = small_model(config=BackboneConfig(stem=stem, width=4)).eval()
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize(("stem", "size"), [("cifar", (4, 4)), ("imagenet", (1, 1))])
def test_the_stem_decides_how_far_an_image_is_reduced(stem, size):
    model = small_model(config=BackboneConfig(stem=stem, width=4)).eval()
    seen = []
    model.layer4.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    model(torch.randn(1, 3, 32, 32))
    assert seen == [(1, 32, *size)]


@pytest.mark.parametrize(("image_size", "kernel"), [((32, 32), 3), ((64, 64), 3), ((64, 65), 7), ((224, 224), 7)])
def test_the_automatic_stem_follows_the_longer_side(image_size, kernel):
    model = build_backbone(BackboneConfig(width=4), n_classes=2, image_size=image_size, seed=0)
    assert model.conv1.kernel_size == (kernel, kernel)


def test_a_block_adds_its_input_to_what_it_computes():
    block = small_model().eval().layer1[0]
    with torch.no_grad():
        block.bn2.weight.zero_()
        x = torch.rand(1, 4, 6, 6)
        assert torch.equal(block(x), x)


def test_a_seed_gives_the_same_weights_and_another_seed_others():
    assert same_weights(small_model(seed=3), small_model(seed=3))
    assert not same_weights(small_model(seed=3), small_model(seed=4))


def test_building_neither_reads_nor_changes_the_global_random_state():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = small_model(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_weights(first, small_model(seed=3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_building_leaves_the_random_state_of_the_gpu_alone():
    before = torch.cuda.get_rng_state()
    small_model(seed=12345)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_weights_start_where_a_file_says(weights_file):
    other = small_model(seed=9)
    loaded = small_model(config=BackboneConfig(stem="cifar", width=4, weights=str(weights_file(other))))
    assert same_weights(loaded, other)


def test_a_head_of_another_class_number_is_left_out(weights_file):
    model, other = small_model(n_classes=7, seed=0), small_model(n_classes=5, seed=9)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load_weights(model, weights_file(other))
    loaded = model.state_dict()
    assert torch.equal(loaded["fc.weight"], fresh["fc.weight"])
    assert torch.equal(loaded["fc.bias"], fresh["fc.bias"])
    assert all(torch.equal(loaded[name], tensor) for name, tensor in other.state_dict().items() if not name.startswith("fc."))


def test_weights_without_batch_counters_load(weights_file):
    def drop_counters(state):
        return {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}

    model, other = small_model(), small_model(seed=9)
    load_weights(model, weights_file(other, drop_counters))
    assert same_weights(model, other)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (BackboneConfig(stem="imagenet", width=4), r"conv1.weight is \(4, 3, 7, 7\), expected \(4, 3, 3, 3\)"),
        (BackboneConfig(stem="cifar", width=8), r"bn1.bias is \(8,\), expected \(4,\)"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_name_and_shape(weights_file, config, named):
    path = weights_file(small_model(config=config))
    with pytest.raises(ValueError, match=rf"{path} does not fit this ResNet-18: {named}; check backbone.stem"):
        load_weights(small_model(), path)


def test_a_name_too_many_or_too_few_is_refused_and_changes_nothing(weights_file):
    model, other = small_model(), small_model(seed=9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    too_many = weights_file(other, lambda state: state | {"layer5.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"layer5.weight is \(1,\), expected no such name"):
        load_weights(model, too_many)
    too_few = weights_file(other, lambda state: {name: tensor for name, tensor in state.items() if name != "fc.bias"})
    with pytest.raises(ValueError, match=r"fc.bias is missing, expected \(5,\)"):
        load_weights(model, too_few)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_missing_or_broken_file_of_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*absent.safetensors"):
        load_weights(small_model(), tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"broken.safetensors is not a whole safetensors file"):
        load_weights(small_model(), tmp_path / "broken.safetensors")


def test_a_configuration_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"backbone.stem is 'vgg', expected 'auto', 'cifar' or 'imagenet'"):
        BackboneConfig(stem="vgg")
    with pytest.raises(ValueError, match=r"backbone.width is 0, expected at least 1"):
        BackboneConfig(width=0)
    with pytest.raises(ValueError, match=r"stem is 'auto', expected 'cifar' or 'imagenet'"):
        ResNet18(10, stem="auto")
