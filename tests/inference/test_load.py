"""Damaged model folders are refused in one line."""

import json

import pytest
import safetensors.torch

from halfface_pipeline.inference.load import load_pipeline


@pytest.mark.parametrize("index", ["{}", "[]", "3", "{", '{"_class_name": "HalfFaceInpaintPipeline"}'])
def test_a_damaged_index_is_refused(tmp_path, index):
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(ValueError, match=r"--model is .*; the folder could not be loaded: "):
        load_pipeline(str(tmp_path))


@pytest.mark.parametrize("name", ["conv_in.weight", "conv_out.bias"])
def test_weights_that_lack_a_tensor_are_refused(tiny_pipeline, tmp_path, name):
    tiny_pipeline().save_pretrained(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights = safetensors.torch.load_file(file)
    del weights[name]
    safetensors.torch.save_file(weights, file)
    with pytest.raises(ValueError, match=rf"the folder could not be loaded: .*{name}"):
        load_pipeline(str(tmp_path))


def test_a_size_that_fits_no_network_is_refused(tiny_pipeline, tmp_path):
    tiny_pipeline().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"height": 10**9}))
    with pytest.raises(ValueError, match=r"height is 1000000000"):
        load_pipeline(str(tmp_path))
