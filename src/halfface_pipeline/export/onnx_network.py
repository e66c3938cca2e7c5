"""The network of a pipeline as an ONNX model, checked against torch."""

import contextlib
import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

from ..remote_code.halves import from_canonical, predict, size_multiple, to_canonical
from ..remote_code.pipeline import HalfFaceInpaintPipeline

Weights = Literal["float32", "float16", "int8"]

TOLERANCES: dict[Weights, float] = {"float32": 1e-5, "float16": 2e-3, "int8": 5e-2}
"""Largest RMS difference from torch, relative to the RMS of torch's prediction."""
OPSET = 18
SMALLEST_CONVERTED = 1024
"""Values from which on a tensor is stored in fewer bits; biases and norms stay exact."""
INPUTS, OUTPUT = ("noisy", "known", "timestep"), "prediction"
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class PaddedConv2d(torch.nn.Module):
    """A convolution of the same result whose input channels are filled up with zeros to a multiple of 4.

    The WebGPU kernel of ONNX Runtime 1.30 computes something else for 6 channels (microsoft/onnxruntime#29651).

    Args:
        conv: The convolution, with one group.
    """

    def __init__(self, conv: torch.nn.Conv2d) -> None:
        super().__init__()
        self.more = -conv.in_channels % 4
        self.conv = conv
        conv.weight = torch.nn.Parameter(F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, self.more)))
        conv.in_channels += self.more

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the output of the convolution."""
        return self.conv(F.pad(x, (0, 0, 0, 0, 0, self.more)))


def pad_channels(network: torch.nn.Module) -> None:
    """Replaces each convolution whose input channels are not a multiple of 4 by a `PaddedConv2d`, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Conv2d) and child.in_channels % 4 and child.groups == 1:
                setattr(module, name, PaddedConv2d(child))


class HalfNetwork(torch.nn.Module):
    """A pipeline's network between halves as they are in the image.

    Orientation, the layout of the known half and padding are inside, so that a caller needs none of them.

    Args:
        pipe: The model; its network is copied.
    """

    def __init__(self, pipe: HalfFaceInpaintPipeline) -> None:
        super().__init__()
        self.network = copy.deepcopy(pipe.unet).cpu().float().eval()
        pad_channels(self.network)
        self.hidden_half, self.known_layout = pipe.config.hidden_half, pipe.config.known_layout
        self.multiple = size_multiple(pipe.unet)

    def forward(self, noisy: torch.Tensor, known: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The prediction for the hidden half.

        Args:
            noisy: Noisy hidden half, (N, C, h, w).
            known: Known half in [-1, 1], (N, C, h, w).
            timestep: On the trained scale from 0 to T - 1, (N,).

        Returns:
            What the network predicts: noise, v or the clean half, (N, C, h, w).
        """
        noisy, known = to_canonical(noisy, self.hidden_half), to_canonical(known, self.hidden_half)
        prediction = predict(self.network, noisy, known, timestep, self.known_layout, self.multiple)
        return from_canonical(prediction, self.hidden_half)


def check_packages() -> None:
    """Raises ValueError if a package of the extra `export` is missing."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{missing[0]} is not installed; exporting needs it: pip install 'halfface-pipeline[export]'")


def export_network(pipe: HalfFaceInpaintPipeline, weights: Weights = "float32") -> tuple[bytes, float]:
    """Exports the network with a dynamic batch size; it computes in float32 whatever its weights are stored in.

    Args:
        pipe: The model.
        weights: How large tensors are stored: `float32`, `float16`, or `int8` with one scale per output channel.

    Returns:
        The serialized ONNX model and its `relative_error`.

    Raises:
        ValueError: If the weights have another name or do not fit into float16, a package is missing, or the model
            differs from torch by more than its tolerance.
    """
    if weights not in get_args(Weights):
        raise ValueError(f"weights is {weights!r}; it must be one of {', '.join(get_args(Weights))}")
    check_packages()
    import onnx

    network = HalfNetwork(pipe)
    batch = torch.export.Dim("batch", max=63)  # diffusers' upsampling branches at 64; the graph holds for any size
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            network,
            example_inputs(pipe, 2),
            dynamo=True,
            input_names=INPUTS,
            output_names=(OUTPUT,),
            dynamic_shapes=tuple({0: batch} for _ in INPUTS),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces, with paths of this machine
        node.doc_string = ""
    reduce_angles(model)
    store_weights(model, weights)
    onnx.checker.check_model(model)
    data = bytes(model.SerializeToString())
    error = relative_error(network, data, example_inputs(pipe, 3))
    if not error <= TOLERANCES[weights]:
        raise ValueError(
            f"the exported network differs from torch by {error:.2g} of its prediction; with weights {weights} it may "
            f"differ by {TOLERANCES[weights]:g}"
        )
    return data, error


def example_inputs(pipe: HalfFaceInpaintPipeline, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random noisy half, known half and timesteps of all noise levels, as `HalfNetwork` takes them."""
    generator = torch.Generator().manual_seed(batch)
    shape = (batch, pipe.latent_shape[0], *pipe.half_size)
    noisy, known = (torch.randn(shape, generator=generator) for _ in range(2))
    return noisy, known.clamp(-1, 1), torch.linspace(pipe.scheduler.config.num_train_timesteps - 1, 0, batch)


def reduce_angles(model: Any) -> None:
    """Brings the argument of each sine and cosine into [0, 2 pi); on GPUs both are inexact for large angles.

    Args:
        model: An `onnx.ModelProto`, changed in place.
    """
    from onnx import helper, numpy_helper

    nodes = []
    for node in model.graph.node:
        if node.op_type in ("Sin", "Cos"):
            angle, own = node.input[0], f"{node.output[0]}.angle"
            nodes += [
                helper.make_node("Div", [angle, "turn"], [f"{own}.turns"]),
                helper.make_node("Floor", [f"{own}.turns"], [f"{own}.whole"]),
                helper.make_node("Mul", [f"{own}.whole", "turn"], [f"{own}.surplus"]),
                helper.make_node("Sub", [angle, f"{own}.surplus"], [own]),
            ]
            node.input[0] = own
        nodes.append(node)
    nodes = [copy.deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(np.array(2 * np.pi, dtype=np.float32), "turn"))


def store_weights(model: Any, weights: Weights) -> None:
    """Stores the large tensors of a model in fewer bits, each followed by nodes that convert it back.

    Runtimes compute such constant nodes once, when they load the model.

    Args:
        model: An `onnx.ModelProto` with float32 weights, changed in place.
        weights: `float32` changes nothing.

    Raises:
        ValueError: If a weight does not fit into float16.
    """
    from onnx import TensorProto, helper, numpy_helper

    if weights == "float32":
        return
    nodes = []
    large = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) >= SMALLEST_CONVERTED
    ]
    for tensor in large:
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if weights == "float16":
            if np.abs(values).max() > np.finfo(np.float16).max:
                raise ValueError(f"weights is 'float16'; {name} has values above {np.finfo(np.float16).max:g}")
            stored = {f"{name}.float16": values.astype(np.float16)}
            nodes.append(helper.make_node("Cast", list(stored), [name], to=TensorProto.FLOAT))
        else:
            largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True)
            scale = np.maximum(largest, np.finfo(np.float32).tiny) / 127
            stored = {f"{name}.int8": np.rint(values / scale).astype(np.int8), f"{name}.scale": scale}
            nodes.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], to=TensorProto.FLOAT))
            nodes.append(helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]))
        model.graph.initializer.remove(tensor)
        model.graph.initializer.extend(numpy_helper.from_array(array, key) for key, array in stored.items())
    for index, node in enumerate(nodes):
        model.graph.node.insert(index, node)


def relative_error(network: torch.nn.Module, data: bytes, inputs: tuple[torch.Tensor, ...]) -> float:
    """RMS difference between ONNX Runtime's prediction and torch's, relative to the RMS of the latter."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feed = {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)}
    got = session.run([OUTPUT], feed)[0].astype(np.float64)
    with torch.no_grad():
        want = network(*inputs).double().numpy()
    return float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings about its own internals and about torchvision."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
