"""The ONNX model against torch."""

import numpy as np
import pytest
import torch

from halfface_pipeline.export.onnx_network import (
    HalfNetwork,
    Weights,
    check_packages,
    example_inputs,
    export_network,
    pad_channels,
    reduce_angles,
    relative_error,
    store_weights,
)
from halfface_pipeline.remote_code.halves import from_canonical, predict, size_multiple, to_canonical

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: the extra `export` brings it")


@pytest.mark.parametrize("hidden_half", ["bottom", "top", "left", "right"])
@pytest.mark.parametrize("known_layout", ["stacked", "mirrored"])
@torch.no_grad()
def test_the_network_between_halves_is_the_pipelines(tiny_pipeline, hidden_half, known_layout):
    pipe = tiny_pipeline(22, 18, hidden_half, known_layout)
    noisy, known, timestep = example_inputs(pipe, 2)
    turned = [to_canonical(half, hidden_half) for half in (noisy, known)]
    want = predict(pipe.unet, *turned, timestep, known_layout, size_multiple(pipe.unet))
    torch.testing.assert_close(HalfNetwork(pipe)(noisy, known, timestep), from_canonical(want, hidden_half))


@pytest.mark.slow
def test_onnx_runtime_gives_torchs_prediction_at_every_batch_size_and_in_every_format(tiny_pipeline):
    import onnx

    pipe = tiny_pipeline(22, 18, "left", "mirrored")
    data, error = export_network(pipe)
    assert error < 1e-5
    network = HalfNetwork(pipe)
    for batch in (1, 2, 7, 64):
        assert relative_error(network, data, example_inputs(pipe, batch)) < 1e-5
    assert b"/halfface_pipeline/" not in data, "stack traces name files of this machine"

    errors: dict[Weights, float] = {}
    for weights in ("float16", "int8"):
        model = onnx.load_from_string(data)
        store_weights(model, weights)
        smaller = model.SerializeToString()
        assert len(smaller) < len(data)
        errors[weights] = relative_error(network, smaller, example_inputs(pipe, 2))
    assert 1e-5 < errors["float16"] < 2e-3 < errors["int8"] < 5e-2


def test_stored_weights_differ_by_at_most_half_a_unit():
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    values = np.random.default_rng(0).normal(size=(8, 16, 3, 3)).astype(np.float32)
    values[3] = 0
    for weights in ("float16", "int8"):
        graph = helper.make_graph(
            [helper.make_node("Identity", ["w"], ["y"])],
            "one",
            [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, values.shape)],
            [numpy_helper.from_array(values, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        store_weights(model, weights)
        got = ReferenceEvaluator(model).run(None, {})[0]
        largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
        unit = largest / 127 if weights == "int8" else np.abs(values) * 2.0**-10
        assert (np.abs(got - values) <= unit * 0.5001).all()
        assert (got != values).any()


def test_weights_that_do_not_fit_are_refused():
    from onnx import helper, numpy_helper

    large = numpy_helper.from_array(np.full((32, 32), 1e5, np.float32), "w")
    model = helper.make_model(helper.make_graph([], "one", [], [], [large]))
    with pytest.raises(ValueError, match="weights is 'float16'; w has values above 65504"):
        store_weights(model, "float16")


def test_an_unknown_format_is_refused(tiny_pipeline):
    with pytest.raises(ValueError, match="weights is 'int4'; it must be one of float32, float16, int8"):
        export_network(tiny_pipeline(), "int4")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnx is not installed; .* 'halfface-pipeline\[export\]'"):
        check_packages()


def test_a_convolution_with_padded_channels_gives_the_same():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(6, 5, 3, padding=1), torch.nn.Conv2d(5, 4, 1), torch.nn.Conv2d(4, 3, 1)
    )
    x = torch.randn(2, 6, 8, 8)
    want = network(x)
    pad_channels(network)
    assert [type(module).__name__ for module in network] == ["PaddedConv2d", "PaddedConv2d", "Conv2d"]
    assert network[0].conv.weight.shape == (5, 8, 3, 3)
    torch.testing.assert_close(network(x), want)


def test_angles_are_reduced_to_one_turn():
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [5]) for name in ("x", "s", "c")]
    nodes = [helper.make_node("Sin", ["x"], ["s"]), helper.make_node("Cos", ["x"], ["c"])]
    model = helper.make_model(helper.make_graph(nodes, "one", ends[:1], ends[1:]))
    reduce_angles(model)
    model.graph.output.extend(helper.make_tensor_value_info(f"{name}.angle", TensorProto.FLOAT, [5]) for name in "sc")
    x = np.array([0, 3, 6.5, 400, 999], np.float32)
    sine, cosine, *angles = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(sine, np.sin(x.astype(float)), atol=1e-4)
    np.testing.assert_allclose(cosine, np.cos(x.astype(float)), atol=1e-4)
    assert all((angle >= 0).all() and (angle < 6.2832).all() for angle in angles)
