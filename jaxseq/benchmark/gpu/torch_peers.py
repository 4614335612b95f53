"""torch's layers: eager, and replayed as a CUDA graph; plain ones are cuDNN's on a GPU, normalised ones a loop of cells."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from jaxseq.benchmark.gpu.loads import Load
from jaxseq.benchmark.gpu.start import Start
from jaxseq.benchmark.gpu.turns import Turn
from jaxseq.cells import CELLS, convert
from jaxseq.common.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

RATE = 1e-3
EPSILON = 1e-5
WARM_UP_STEPS = 3
"""Steps before a CUDA graph is captured, in which cuDNN and the allocator settle."""


Weights: TypeAlias = "dict[str, Tensor]"
"""Parameters of a normalised cell by name."""
State: TypeAlias = "tuple[Tensor, Tensor]"
"""h and c "b h"; c stays as it is in cells without a memory."""


class Net(NamedTuple):
    """A recurrent layer: its parameters, and its outputs "t b h" of an input "t b d"."""

    parameters: list[Tensor]
    forward: Callable[[Tensor], Tensor]


def set_precision(precision: str) -> None:
    """Allow TF32 in torch's products and in cuDNN, or forbid it."""
    import torch as t

    allowed = precision == "tf32"

    with warnings.catch_warnings():
        # The newer names of these switches differ between torch's releases.
        warnings.simplefilter("ignore")
        t.backends.cuda.matmul.allow_tf32 = allowed
        t.backends.cudnn.allow_tf32 = allowed


def library_layer(load: Load, start: Start, device: str) -> Net:
    """Build torch's own `RNN`, `LSTM` or `GRU`."""
    import torch as t

    layers = {
        "rnn": t.nn.RNN,
        "lstm": t.nn.LSTM,
        "gru": t.nn.GRU,
    }
    layer = layers[load.cell](load.features, load.hidden)
    weights = convert.to_torch(load.cell, start.params)
    layer.load_state_dict({name: t.tensor(array) for name, array in weights.items()})
    # Moved after loading, so that cuDNN finds its weights in one piece.
    layer = layer.to(device)

    def forward(x: Tensor) -> Tensor:
        outputs, _ = layer(x)
        return outputs

    return Net(list(layer.parameters()), forward)


def _normalised_weights(start: Start, device: str) -> Weights:
    """Return the cell's parameters under our names, and the norms' gains with "gain_" before them."""
    import torch as t

    arrays = start.params._asdict()
    for name, array in start.gains._asdict().items():
        arrays[f"gain_{name}"] = array
    weights: Weights = {}
    for name, array in arrays.items():
        weights[name] = t.nn.Parameter(t.tensor(array, device=device))
    return weights


def normalised_layer(load: Load, start: Start, device: str) -> Net:
    """Build a loop of a cell with layer norm of both projections, and of the LSTM's memory (Ba et al. 2016)."""
    import torch as t

    if load.norm != "layer":
        raise UsageError("no cell in torch's terms", where="norm", got=load.norm, needed="layer")

    params = _normalised_weights(start, device)
    step = STEPS[load.cell]
    widths = [group * load.hidden for group in CELLS[load.cell].groups]
    # Only the GRU has a bias beside h.
    recurrent_bias = params.get("recurrent_bias")

    def normed(sums: Tensor, gain: Tensor, bias: Tensor | None) -> Tensor:
        # The norm of a single group adds the bias itself; copies would be torch's loss.
        if len(widths) == 1:
            return t.nn.functional.layer_norm(sums, sums.shape[-1:], gain, bias, EPSILON)

        scaled = []
        parts = sums.split(widths, -1)
        scales = gain.split(widths)
        for part, scale in zip(parts, scales, strict=True):
            scaled.append(t.nn.functional.layer_norm(part, part.shape[-1:], scale, None, EPSILON))
        assert bias is not None, "a cell of several groups, the GRU, has both biases"
        return t.cat(scaled, -1) + bias

    def forward(x: Tensor) -> Tensor:
        # The input's projection needs no state: it is one product over all time steps.
        z = normed(x @ params["input_kernel"], params["gain_x"], params["bias"])
        h = x.new_zeros(x.shape[1], load.hidden)
        c = h
        outputs = []
        for z_t in z.unbind():
            u = normed(h @ params["recurrent_kernel"], params["gain_h"], recurrent_bias)
            h, c = step(z_t, u, h, c, params)
            outputs.append(h)
        return t.stack(outputs)

    return Net(list(params.values()), forward)


def _rnn_step(z: Tensor, u: Tensor, h: Tensor, c: Tensor, params: Weights) -> State:
    return (z + u).tanh(), c


def _lstm_step(z: Tensor, u: Tensor, h: Tensor, c: Tensor, params: Weights) -> State:
    import torch as t

    i, f, g, o = (z + u).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    # The norm acts on the way to the output; c itself is carried on as it was.
    visible_c = t.nn.functional.layer_norm(
        c,
        c.shape[-1:],
        weight=params["gain_c"],
        bias=params["gain_c_shift"],
        eps=EPSILON,
    )
    return o.sigmoid() * visible_c.tanh(), c


def _gru_step(z: Tensor, u: Tensor, h: Tensor, c: Tensor, params: Weights) -> State:
    z_r, z_update, z_n = z.chunk(3, -1)
    u_r, u_update, u_n = u.chunk(3, -1)
    r = (z_r + u_r).sigmoid()
    update = (z_update + u_update).sigmoid()
    n = (z_n + r * u_n).tanh()
    return n + update * (h - n), c


STEPS = MappingProxyType({"rnn": _rnn_step, "lstm": _lstm_step, "gru": _gru_step})
"""Steps of normalised cells, (z, u, h, c, parameters) -> (h, c)."""


class Work(NamedTuple):
    """One repetition on a device.

    inputs   of every repetition; those of a graph are copied into its own
    run      (inputs of one repetition) -> a loss "", or an input gradient "t b d"
    state    tensors that `run` changes
    """

    inputs: list[tuple[Tensor, ...]]
    run: Callable[..., Tensor]
    state: Callable[[], list[Tensor]]


def training(net: Net, start: Start, device: str) -> Work:
    """Return a training step: the layer, a dense head on its last output, squared error, Adam in one fused kernel."""
    import torch as t

    kernel = t.nn.Parameter(t.tensor(start.head_kernel, device=device))
    bias = t.nn.Parameter(t.tensor(start.head_bias, device=device))
    parameters = [*net.parameters, kernel, bias]
    # A graph cannot read the step's number from the host.
    adam = t.optim.Adam(
        parameters,
        lr=RATE,
        fused=True,
        capturable=device != "cpu",
    )
    xs = t.tensor(start.x, device=device).unbind()
    ys = t.tensor(start.y, device=device).unbind()

    def run(x: Tensor, y: Tensor) -> Tensor:
        adam.zero_grad(set_to_none=True)
        outputs = net.forward(x)
        prediction = t.addmm(bias, outputs[-1], kernel)
        loss = ((prediction - y) ** 2).mean()
        loss.backward()
        adam.step()
        return loss.detach()

    # Adam makes its moments in the first step, so the list is asked for anew.
    def state() -> list[Tensor]:
        tensors = list(parameters)
        for moments in adam.state.values():
            tensors += moments.values()
        return tensors

    return Work(list(zip(xs, ys, strict=True)), run, state)


def passes(net: Net, start: Start, device: str) -> Work:
    """Return a forward and backward pass of the layer, whose parameter gradients are added up."""
    import torch as t

    xs = t.tensor(start.x, device=device).unbind()
    inputs: list[tuple[Tensor, ...]] = [(x.requires_grad_(),) for x in xs]
    cotangent = t.tensor(start.cotangent, device=device)
    # With a gradient there, the backward pass adds to it in place, also within a graph.
    for parameter in net.parameters:
        parameter.grad = t.zeros_like(parameter)

    def run(x: Tensor) -> Tensor:
        x.grad = None
        net.forward(x).backward(cotangent)
        return _gradient(x)

    def state() -> list[Tensor]:
        return [_gradient(parameter) for parameter in net.parameters]

    return Work(inputs, run, state)


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None, "it was there before, or a backward pass has made it"
    return tensor.grad


def eager(work: Work, device: str) -> Turn:
    """Run every repetition from Python."""
    results = [work.run(*inputs) for inputs in work.inputs]
    check = _check(results)

    def call() -> None:
        for inputs in work.inputs:
            work.run(*inputs)

    return Turn(call, partial(wait, device), check)


def graphed(work: Work, device: str) -> Turn:
    """Capture one repetition as a CUDA graph, and replay it on copies of the inputs."""
    import torch as t

    if device == "cpu":
        raise UsageError("a CUDA graph needs a GPU")
    own_inputs = []
    for tensor in work.inputs[0]:
        copy = tensor.detach().clone()
        own_inputs.append(copy.requires_grad_(tensor.requires_grad))

    with _unchanged(work):
        warm_up(partial(work.run, *own_inputs), WARM_UP_STEPS)

    graph = t.cuda.CUDAGraph()
    # Other threads of the process, JAX's, may use the device meanwhile.
    with t.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work.run(*own_inputs)

    def replay(inputs: tuple[Tensor, ...]) -> Tensor:
        with t.no_grad():
            for tensor, value in zip(own_inputs, inputs, strict=True):
                tensor.copy_(value)
        graph.replay()
        return result

    # Every replay writes into the same result.
    check = _check([replay(inputs).clone() for inputs in work.inputs])

    def call() -> None:
        for inputs in work.inputs:
            replay(inputs)

    return Turn(call, partial(wait, device), check)


def warm_up(run: Callable[[], object], calls: int) -> None:
    """Call what a CUDA graph is to capture.

    Libraries allocate at their first use, which a capture must not see; it also must not see the default stream.
    """
    import torch as t

    side = t.cuda.Stream()
    # It starts after all that is queued, and nothing later starts before it has finished.
    side.wait_stream(t.cuda.current_stream())
    with t.cuda.stream(side):
        for _ in range(calls):
            run()
    t.cuda.current_stream().wait_stream(side)


@contextlib.contextmanager
def _unchanged(work: Work) -> Iterator[None]:
    """Undo in place what steps do to the state; state that appears meanwhile becomes zero, as Adam's is at first."""
    import torch as t

    before = {id(tensor): tensor.detach().clone() for tensor in work.state()}
    yield
    with t.no_grad():
        for tensor in work.state():
            earlier = before.get(id(tensor))
            if earlier is None:
                tensor.zero_()
            else:
                tensor.copy_(earlier)


def _check(results: list[Tensor]) -> list[float]:
    # The norm of a scalar is its size; losses are positive.
    return [float(results[0].norm()), float(results[-1].norm())]


def wait(device: str) -> None:
    """Wait until the device has finished."""
    import torch as t

    if device != "cpu":
        t.cuda.synchronize()


def _make(
    run: Callable[[Work, str], Turn],
    load: Load,
    start: Start,
    device: str,
) -> Turn:
    import torch as t

    if device != "cpu" and not t.cuda.is_available():
        raise UsageError("torch finds no GPU")
    if device == "cpu":
        t.set_num_threads(1)
    else:
        # A capture that failed leaves its own stream as the current one.
        t.cuda.set_stream(t.cuda.default_stream())
    set_precision(load.precision)
    layer = library_layer
    if load.norm:
        layer = normalised_layer
    net = layer(load, start, device)
    task = passes
    if load.task == "step":
        task = training
    return run(task(net, start, device), device)


MAKERS: MappingProxyType[str, Callable[[Load, Start, str], Turn]] = MappingProxyType(
    {"torch": partial(_make, eager), "torch graph": partial(_make, graphed)}
)
"""torch's peers by name; each takes the device, "cuda" or "cpu"."""
