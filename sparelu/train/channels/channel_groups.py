"""Which channels of a module come and go together: the layers that write, normalise and read them, from its graph.

A stream is a set of channels that runs from the layers that write it to those that read it. Additions join streams:
a residual sum is one stream with several writers, whose channels can be removed only together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

from sparelu.train.sparsifier.prunable import unwrapped

ELEMENTWISE_MODULES: tuple[type[nn.Module], ...] = (
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Softplus,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
)
POOLING_MODULES: tuple[type[nn.Module], ...] = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS: dict[type[nn.Module], int] = {
    kind: 1 + i % 3 for i, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED))
}
"""Spatial dimensions."""

BATCH_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS: tuple[type[nn.Module], ...] = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
"""These two treat each channel apart; layer and group normalisation mix channels."""

ELEMENTWISE: tuple[str, ...] = (
    *("relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardtanh", "hardswish"),
    *("softplus", "dropout", "dropout2d", "neg", "abs", "square", "clamp"),
    *("contiguous", "clone", "detach", "float", "double", "half", "to"),
)
POOLING: tuple[str, ...] = tuple(
    f"{kind}_pool{d}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for d in (1, 2, 3)
)
PAIRWISE: tuple[str, ...] = (
    *("add", "add_", "iadd", "sub", "sub_", "isub"),
    *("mul", "mul_", "imul", "maximum", "minimum"),
)


class Place(NamedTuple):
    """Module by name, axis of its weight along which the channels lie, consecutive entries there for each channel."""

    module: str
    axis: int
    block: int


@dataclass
class ChannelGroup:
    """``width`` channels: ``writers`` make them (depthwise convolutions too), ``norms`` scale, ``readers`` use them.

    ``joined`` is whether an addition joins several writers; ``kept`` says why no channel can go, empty when some can.
    """

    width: int
    writers: list[Place] = field(default_factory=list)
    norms: list[Place] = field(default_factory=list)
    readers: list[Place] = field(default_factory=list)
    joined: bool = False
    kept: str = ""

    @property
    def name(self) -> str:
        """Return the first writer's."""
        return self.writers[0].module


@dataclass(frozen=True)
class Value:
    """A tensor with the channels of ``stream``: on axis 1 before ``spatial`` others, or last when there are none.

    ``rows`` says that a tensor without spatial axes has two: one row for each example.
    """

    stream: int
    spatial: int
    rows: bool = False


def channel_groups(model: nn.Module) -> dict[str, ChannelGroup]:
    """Find the channel groups of ``model`` by the name of their first writer, in the order of the forward pass.

    Understood are convolutions (transposed ones and depthwise ones of multiplicity 1 as well), linear layers, batch and
    instance normalisation, activations, pooling, means over space, flattening by ``nn.Flatten``, ``flatten(1)`` or
    ``view(x.size(0), -1)``, and sums, differences and products of tensors of the same shape. Channels that pass through
    anything else are kept whole, and :attr:`ChannelGroup.kept` says at what.

    Raises ``ValueError`` when torch.fx cannot trace the forward pass.
    """
    model = unwrapped(model)
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise ValueError(
            f"the forward pass of {type(model).__name__} cannot be traced ({error}): which layers read a channel is "
            "unknown. Keep conditions on data out of it, or use a method that removes no channels"
        ) from error
    reader = _Reader(model)
    for node in graph.nodes:
        reader.read(node)
    return reader.result()


class _Reader:
    """Walks the graph in the order of the forward pass; streams that are joined share one number's ChannelGroup."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.streams: list[ChannelGroup] = []
        self.values: dict[fx.Node, Value] = {}
        self.written: dict[str, int] = {}
        self.read_by: dict[str, int] = {}
        self.batch_sizes: set[fx.Node] = set()
        self.shapes: set[fx.Node] = set()
        self.operations: dict[str, Callable[[fx.Node, str], Value | None]] = {
            **dict.fromkeys(ELEMENTWISE, self._same),
            **dict.fromkeys(POOLING, self._pooled),
            **dict.fromkeys(PAIRWISE, self._pair),
            "flatten": self._flattened,
            "view": self._viewed,
            "reshape": self._viewed,
            "mean": self._mean,
            "size": self._size,
            "getattr": self._size,
            "getitem": self._item,
        }

    def result(self) -> dict[str, ChannelGroup]:
        """Return each group once; those of shared weights are kept whole."""
        holders: dict[int, list[str]] = {}
        for name, module in self.modules.items():
            for parameter in module._parameters.values():
                if parameter is not None:
                    holders.setdefault(id(parameter), []).append(name)
        shared = {n for names in holders.values() if len(names) > 1 for n in names}
        found: dict[str, ChannelGroup] = {}
        for stream in {id(s): s for s in self.streams}.values():
            places = (*stream.writers, *stream.norms, *stream.readers)
            if common := sorted(shared & {p.module for p in places}):
                stream.kept = stream.kept or f"{common[0]} shares its parameters with another module"
            if not stream.readers:
                stream.kept = stream.kept or "no layer reads it"
            found[stream.name] = stream
        return found

    def read(self, node: fx.Node) -> None:
        """Give the node its value, or keep whole the streams that enter it."""
        inputs = [n for n in node.all_input_nodes if n in self.values]
        if node.op == "call_module":
            value = self._module(node, str(node.target))
        elif node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else str(getattr(node.target, "__name__", node.target))
            value = self.operations.get(name, self._unknown)(node, name)
        else:
            self._keep(inputs, "it is the output of the model")
            value = None
        if value is not None:
            self.values[node] = value

    def _module(self, node: fx.Node, name: str) -> Value | None:
        module, value = self.modules[name], self._first(node)
        what = f"{name} ({type(module).__name__})"
        if type(module) in CONVOLUTIONS:
            return self._convolution(node, name, module, value)
        if type(module) is nn.Linear:
            return self._linear(node, name, module, value)
        if value is None:
            return self._unknown(node, what)
        if type(module) in ELEMENTWISE_MODULES:
            return value
        if type(module) in POOLING_MODULES:
            return self._pooled(node, what)
        if type(module) in BATCH_NORMS or type(module) in INSTANCE_NORMS:
            return self._norm(node, name, module, value)
        if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            return self._flat(node, value, what)
        return self._unknown(node, what)

    def _convolution(self, node: fx.Node, name: str, module: Any, value: Value | None) -> Value | None:
        transposed, spatial = type(module) in TRANSPOSED, CONVOLUTIONS[type(module)]
        if value is not None and value.spatial != spatial:
            return self._unknown(node, name)
        if module.groups == 1:
            self._reads(name, Place(name, 0 if transposed else 1, 1), value)
            return Value(self._writes(name, Place(name, 1 if transposed else 0, 1), module.out_channels), spatial)
        if value is not None and module.groups == module.in_channels == module.out_channels:
            if name in self.written:
                self._join([self.written[name], value.stream])
            self.written[name] = value.stream
            self._add(self.streams[value.stream].writers, Place(name, 0, 1))
            return value
        reason = f"{name} is a convolution in {module.groups} groups, which must stay of equal size"
        self._keep(node.all_input_nodes, reason)
        stream = self._writes(name, Place(name, 1 if transposed else 0, 1), module.out_channels)
        self.streams[stream].kept = reason
        return Value(stream, spatial)

    def _linear(self, node: fx.Node, name: str, module: nn.Linear, value: Value | None) -> Value | None:
        if value is not None:
            block, rest = divmod(module.in_features, self.streams[value.stream].width)
            if value.spatial or rest:
                self._keep([node.args[0]], f"{name} does not read its channels from the last axis")
            else:
                self._reads(name, Place(name, 1, block), value)
        stream = self._writes(name, Place(name, 0, 1), module.out_features)
        return Value(stream, 0, rows=value is not None and value.rows)

    def _norm(self, node: fx.Node, name: str, module: Any, value: Value) -> Value | None:
        block, rest = divmod(module.num_features, self.streams[value.stream].width)
        flat = not value.spatial
        if rest or (block != 1 and not flat) or (flat and type(module) in INSTANCE_NORMS):
            return self._unknown(node, name)
        self._add(self.streams[value.stream].norms, Place(name, 0, block))
        return value

    def _same(self, node: fx.Node, name: str) -> Value | None:
        return self._first(node)

    def _pooled(self, node: fx.Node, name: str) -> Value | None:
        value = self._first(node)
        return value if value is not None and value.spatial else self._unknown(node, name)

    def _pair(self, node: fx.Node, name: str) -> Value | None:
        """Combine numbers or tensors of the same shape; others may be broadcast over channels."""
        operands = node.all_input_nodes
        values = [self.values.get(a) for a in operands]
        known = [v for v in values if v is not None]
        if not known:
            return None
        same = len(known) == len(operands) and len({v.spatial for v in known}) == 1
        if not same or len({self.streams[v.stream].width for v in known}) > 1:
            return self._unknown(node, name)
        self._join([v.stream for v in known])
        return known[0]

    def _flattened(self, node: fx.Node, name: str) -> Value | None:
        start = node.args[1] if len(node.args) > 1 else node.kwargs.get("start_dim", 0)
        value, whole = self._first(node), len(node.args) < 3 and node.kwargs.get("end_dim", -1) == -1
        return (
            self._flat(node, value, name) if value is not None and start == 1 and whole else self._unknown(node, name)
        )

    def _viewed(self, node: fx.Node, name: str) -> Value | None:
        value, shape = self._first(node), node.args[1:]
        rows = len(shape) == 2 and shape[0] in self.batch_sizes and shape[1] == -1
        return self._flat(node, value, name) if value is not None and rows else self._unknown(node, name)

    def _flat(self, node: fx.Node, value: Value, name: str) -> Value | None:
        if not (value.spatial or value.rows):
            return self._unknown(node, name)
        return Value(value.stream, 0, rows=True)

    def _mean(self, node: fx.Node, name: str) -> Value | None:
        value = self._first(node)
        dims: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if value is None or dims is None:
            return self._unknown(node, name)
        axes = 2 + value.spatial
        over = {int(d) % axes for d in (dims if isinstance(dims, Iterable) else (dims,))}
        if not value.spatial or min(over) < 2:
            return self._unknown(node, name)
        keep = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
        left = value.spatial - (0 if keep else len(over))
        return Value(value.stream, left, rows=not left)

    def _size(self, node: fx.Node, name: str) -> Value | None:
        """Read a size: the number of examples does not depend on channels, nor do types and devices."""
        what = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        if what == 0:
            self.batch_sizes.add(node)
        elif what == "shape" or (name == "size" and what is None):
            self.shapes.add(node)
            if any(u.op != "call_function" or u.args[1:] != (0,) for u in node.users):
                return self._unknown(node, "its shape")
        elif what not in ("dtype", "device"):
            return self._unknown(node, name)
        return None

    def _item(self, node: fx.Node, name: str) -> Value | None:
        if node.args[0] in self.shapes and node.args[1] == 0:
            self.batch_sizes.add(node)
            return None
        return self._unknown(node, "an index")

    def _unknown(self, node: fx.Node, name: str) -> Value | None:
        self._keep(node.all_input_nodes, f"{name} may mix its channels or count them")
        return None

    def _first(self, node: fx.Node) -> Value | None:
        source = node.args[0] if node.args else None
        others = [n for n in node.all_input_nodes if n is not source and n in self.values]
        self._keep(others, f"{node.target} takes it as a second tensor")
        return self.values.get(source) if isinstance(source, fx.Node) else None

    def _keep(self, nodes: Iterable[Any], reason: str) -> None:
        for node in nodes:
            if node in self.values:
                stream = self.streams[self.values[node].stream]
                stream.kept = stream.kept or reason

    def _writes(self, name: str, place: Place, width: int) -> int:
        if name not in self.written:
            self.written[name] = len(self.streams)
            self.streams.append(ChannelGroup(width, [place]))
        return self.written[name]

    def _reads(self, name: str, place: Place, value: Value | None) -> None:
        """Record a reader; a layer called twice reads one group, whose channels go for both calls or for none."""
        if value is None:
            return
        if name in self.read_by:
            self._join([self.read_by[name], value.stream])
        self.read_by[name] = value.stream
        self._add(self.streams[value.stream].readers, place)

    def _join(self, numbers: list[int]) -> None:
        first = self.streams[min(numbers)]
        for number in numbers:
            other = self.streams[number]
            if other is first:
                continue
            for mine, theirs in (
                (first.writers, other.writers),
                (first.norms, other.norms),
                (first.readers, other.readers),
            ):
                mine.extend(p for p in theirs if p not in mine)
            first.joined, first.kept = True, first.kept or other.kept
            self.streams = [first if s is other else s for s in self.streams]

    @staticmethod
    def _add(places: list[Place], place: Place) -> None:
        if place not in places:
            places.append(place)


def channel_rows(place: Place, tensor: Tensor) -> Tensor:
    """Reshape a tensor of the module's weight to one row for each channel."""
    rows = tensor.movedim(place.axis, 0)
    return rows.reshape(rows.shape[0] // place.block, -1)
