"""A network as an ONNX graph, written with onnx's own helpers: torch's exporter does not take sparse weights."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from sparelu.export.plain import check_labels, plain_network
from sparelu.networks.convolution import Convolution, Image, channels_first
from sparelu.networks.network import Layer, Network
from sparelu.writing import write_atomically

OPSET = 13
IR_VERSION = 7
"""ONNX 1.8 (November 2020): every operator used here has had its present meaning since then."""

BYTES_OF_INDEX = 8
"""A sparse initialiser locates each value by an int64."""


def to_onnx(
    network: Network,
    path: str | Path,
    sparse: bool = False,
    *,
    names: Sequence[str] = (),
    classes: Sequence[Any] = (),
    dtype: torch.dtype = torch.float32,
) -> int:
    """Write the model of :func:`onnx_model` to ``path``; the bytes written."""
    return write_atomically(Path(path), onnx_model(network, sparse, names=names, classes=classes, dtype=dtype))


def onnx_model(
    network: Network,
    sparse: bool = False,
    *,
    names: Sequence[str] = (),
    classes: Sequence[Any] = (),
    dtype: torch.dtype = torch.float32,
) -> bytes:
    """Return ``network`` as an ONNX file with input ``x`` (n, inputs) and output ``scores`` (n, outputs).

    The graph gathers the inputs that are used, then alternates Gemm and Relu; convolutions are Conv on images made of
    the rows. With ``sparse`` a weight matrix is
    stored as a sparse initialiser where that is smaller (density below a third in float32): the file shrinks; runtimes
    such as onnxruntime expand it when they load it. onnx's checker accepts such a model, but its strict shape
    inference does not know sparse initialisers. ``names`` of the inputs and ``classes`` (for two classes a positive
    score means the second) go into the model's metadata, as JSON.

    Raises ``ImportError`` when onnx is not installed, ``ValueError`` for numbers that do not fit ``dtype``, and
    for names or classes that are not one for each input and output.
    """
    onnx = _onnx()
    check_labels(network, names, classes)
    net = plain_network(network, dtype)
    graph = _Graph(onnx, sparse)
    graph.add_network(net)
    model = _model(graph, net, onnx)
    onnx.helper.set_model_props(model, _metadata(network, names, classes))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _model(graph: "_Graph", net: Network, onnx: ModuleType) -> Any:
    kind = onnx.helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=net.dtype).numpy().dtype)
    return onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "sparelu",
            [onnx.helper.make_tensor_value_info("x", kind, ["n", net.inputs])],
            [onnx.helper.make_tensor_value_info("scores", kind, ["n", net.outputs])],
            initializer=graph.dense,
            sparse_initializer=graph.sparse,
        ),
        producer_name="sparelu",
        producer_version=version("sparelu"),
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )


def _onnx() -> ModuleType:
    try:
        import onnx
    except ImportError:
        raise ImportError("writing ONNX needs the onnx package: pip install sparelu[onnx]") from None
    found: ModuleType = onnx
    return found


def _metadata(network: Network, names: Sequence[str], classes: Sequence[Any]) -> dict[str, str]:
    given = {"names": list(names), "classes": list(classes)}
    return {"nonzeros": str(network.nonzeros), **{k: json.dumps(v) for k, v in given.items() if v}}


@dataclass
class _Graph:
    """Nodes and initialisers under construction."""

    onnx: ModuleType
    wants_sparse: bool
    nodes: list[Any] = field(default_factory=list)
    dense: list[Any] = field(default_factory=list)
    sparse: list[Any] = field(default_factory=list)

    def add_network(self, net: Network) -> None:
        """Add all nodes of ``net``, from ``x`` to ``scores``."""
        if net.convolutions:
            self._add_images(net)
            return
        first = [net.layers[0], *([] if net.skip is None else [net.skip])]
        used = net.used_inputs
        h = "x"
        if 0 < used.numel() < net.inputs:
            first = [layer.take(columns=used) for layer in first]
            h = self._node("Gather", ["x", self._tensor("used", used.numpy().astype(np.int64))], "x_used", axis=1)
        x, layers = h, [first[0], *net.layers[1:]]
        for i, layer in enumerate(layers[:-1]):
            h = self._node("Relu", [self._gemm(layer, h, f"layer{i}")], f"hidden{i}")
        top = f"layer{len(layers) - 1}"
        if net.skip is None:
            self._gemm(layers[-1], h, top, out="scores")
        else:
            self._node("Add", [self._gemm(layers[-1], h, top), self._gemm(first[1], x, "skip")], "scores")

    def _add_images(self, net: Network) -> None:
        h, image = "x", None
        for i, part in enumerate(net.parts):
            last = i == len(net.parts) - 1
            if isinstance(part, Convolution):
                h = self._conv(part, h if part.image == image else self._images(h, part.image, i), f"layer{i}")
                image = part.outputs
            else:
                layer = part if image is None else channels_first(part, image)
                h = h if image is None else self._node("Flatten", [h], f"flat{i}")
                h, image = self._gemm(layer, h, f"layer{i}", out="scores" if last and net.skip is None else ""), None
            h = h if last else self._node("Relu", [h], f"hidden{i}")
        if net.skip is not None:
            self._node("Add", [h, self._gemm(net.skip, "x", "skip")], "scores")

    def _images(self, x: str, image: Image, i: int) -> str:
        shape = self._tensor(f"shape{i}", np.array([-1, *image], dtype=np.int64))
        return self._node("Transpose", [self._node("Reshape", [x, shape], f"rows{i}")], f"images{i}", perm=[0, 3, 1, 2])

    def _conv(self, part: Convolution, x: str, name: str) -> str:
        given = [x, self._tensor(f"{name}.weight", part.weight().contiguous().numpy())]
        if part.biases:
            given.append(self._tensor(f"{name}.bias", part.kernel.dense_bias().numpy()))
        sides = {"kernel_shape": [part.side] * 2, "strides": [part.stride] * 2, "pads": [part.padding] * 4}
        return self._node("Conv", given, name, **sides)

    def _gemm(self, layer: Layer, x: str, name: str, out: str = "") -> str:
        given = [x, self._weight(layer, f"{name}.weight")]
        if layer.biases:
            given.append(self._tensor(f"{name}.bias", layer.dense_bias().numpy()))
        return self._node("Gemm", given, out or name, transB=1)

    def _weight(self, layer: Layer, name: str) -> str:
        size = layer.values.element_size()
        smaller = layer.nonzeros * (size + BYTES_OF_INDEX) < layer.shape[0] * layer.shape[1] * size
        if not (self.wants_sparse and smaller and layer.nonzeros):
            return self._tensor(name, layer.dense().numpy())
        flat = layer.outputs_of_values.long() * layer.shape[1] + layer.indices
        numpy_helper = self.onnx.numpy_helper
        values = numpy_helper.from_array(layer.values.numpy(), name)
        where = numpy_helper.from_array(flat.numpy(), f"{name}.where")
        self.sparse.append(self.onnx.helper.make_sparse_tensor(values, where, list(layer.shape)))
        return name

    def _tensor(self, name: str, array: np.ndarray) -> str:
        self.dense.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def _node(self, kind: str, given: list[str], out: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, given, [out], name=f"{kind}_{out}", **attributes))
        return out
