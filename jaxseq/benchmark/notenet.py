"""A training step of the chorales' network of notes (Géron 2019), by us and by torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
import optax

from jaxseq.benchmark import compare, peers, workloads
from jaxseq.benchmark.compare import Settings
from jaxseq.benchmark.peers import ADAM, Device, Given, Trainer
from jaxseq.benchmark.workloads import Product, Workload
from jaxseq.cells import CELLS, convert
from jaxseq.common.arrays import Batch, Tree, Variables
from jaxseq.music.networks.layers import BOOK_EPSILON, BOOK_MOMENTUM
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.networks.objectives import next_symbol
from jaxseq.music.tokens import VOCABULARY
from jaxseq.nn import apply, fields
from jaxseq.train import epoch

if TYPE_CHECKING:
    from torch import Tensor, nn

LOAD = workloads.CHORALE
CONVOLUTIONS = (32, 48, 64, 96)
EMBEDDING = 5


def products(load: Workload, channels: tuple[int, ...] = CONVOLUTIONS) -> list[Product]:
    """Return those of the recurrent layer and the head, and of the convolutions of two taps below them."""
    rows = load.window * load.batch
    gates = CELLS[load.cell].gate_count * load.hidden
    # Below the recurrent layer are layers that learn, so it has a product for the gradient of its input.
    step_products = [*workloads.products(load), Product(1, rows, gates, load.features)]
    for inputs, outputs in itertools.pairwise((EMBEDDING, *channels)):
        step_products += [
            Product(1, rows, 2 * inputs, outputs),
            Product(1, 2 * inputs, rows, outputs),
            Product(1, rows, outputs, 2 * inputs),
        ]
    return step_products


def given(load: Workload, channels: tuple[int, ...] = CONVOLUTIONS) -> Given:
    """Draw weights by our initialisers, and notes and targets evenly."""
    model = NoteNet(
        CELLS[load.cell],
        load.hidden,
        layers=load.layers,
        convolutions=channels,
        embedding=EMBEDDING,
        symbols=load.outputs,
    )
    setup = epoch.Setup(model, next_symbol(), ADAM)
    # One note more than the window: each note's target is the next one.
    shape = (load.batch * load.steps, load.window + 1)
    notes = np.random.default_rng(0).integers(0, load.outputs, shape)
    inputs = notes[:, :-1]
    # The network as the book has it reads no places in the bar.
    places = np.zeros_like(inputs)
    x = jnp.array(np.stack([inputs, places], axis=-1), jnp.int32)
    targets = jnp.array(notes[:, 1:], jnp.int32)
    return peers.started(setup, Batch(x, targets))


def measure(load: Workload, settings: Settings) -> compare.Result:
    """Time our step, its products and torch's step; nobody else has this network."""
    start = given(load)
    others = {}
    absent = {}
    if "torch" in peers.names(settings.device, settings.peers):
        reason = peers.PEERS["torch"].absent(load.cell, settings.device)
        if reason is None:
            others["torch"] = torch_network(load, start, settings.device)
        else:
            absent["torch"] = reason
    entrants = compare.of_same_loss(peers.ours(load, start), first_loss(load, start), others, absent)
    return compare.timed(load, entrants, products(load), settings)


def first_loss(load: Workload, start: Given) -> float:
    """Return the loss of the first batch before any step, by our network alone."""
    x, y = peers.first_batch(load, start)
    logits = apply.apply(start.setup.model, start.state.params, start.state.stats, jnp.asarray(x))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return float(jnp.mean(losses))


def torch_network(load: Workload, start: Given, device: Device = "cpu") -> Trainer:
    """Make the same network of torch's layers, eager, with its fused Adam; on a CPU on one thread."""
    import torch

    place = peers.settle_torch(device)
    model = start.setup.model
    assert isinstance(model, NoteNet), "the workload builds this network"
    net = network(model, start.state.params).to(place)
    # torch's classes are int64.
    notes = torch.tensor(np.array(start.data.x[..., 0]), device=place, dtype=torch.long)
    targets = torch.tensor(np.array(start.data.y), device=place, dtype=torch.long)
    batches = list(zip(notes.split(load.batch), targets.split(load.batch), strict=True))

    def loss(x: Tensor, y: Tensor) -> Tensor:
        logits = net(x)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    return peers.torch_trainer(list(net.parameters()), loss, batches, device)


@runtime_checkable
class TorchNetwork(Protocol):
    """The network as a `torch.nn.Module`: "b t" notes to "b t v" logits, and its layers."""

    @property
    def notes(self) -> nn.Embedding:
        """Embedding of the notes."""
        ...

    @property
    def convolutions(self) -> nn.ModuleList:
        """Dilated convolutions of two taps."""
        ...

    @property
    def norms(self) -> nn.ModuleList:
        """Batch norms after them."""
        ...

    @property
    def recurrent(self) -> nn.RNNBase:
        """Recurrent layers."""
        ...

    @property
    def head(self) -> nn.Linear:
        """Dense layer on their outputs."""
        ...

    def __call__(self, notes: Tensor) -> Tensor:
        """Return the logits."""
        ...

    def to(self, place: str, /) -> TorchNetwork:
        """Move it to a device."""
        ...

    def eval(self) -> TorchNetwork:
        """Leave training mode."""
        ...

    def train(self, mode: bool = True) -> TorchNetwork:
        """Set training mode."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over what is trained."""
        ...


def network(model: NoteNet, params: Variables) -> TorchNetwork:
    """Build the same network in torch with these parameters, in training mode."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels = (model.embedding, *model.convolutions)
            convolutions = []
            for number, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
                convolutions.append(torch.nn.Conv1d(inputs, outputs, 2, dilation=2**number))
            # torch's momentum is the share of the new moments, Keras's that of the old ones.
            momentum = 1 - BOOK_MOMENTUM
            norms = [torch.nn.BatchNorm1d(count, eps=BOOK_EPSILON, momentum=momentum) for count in model.convolutions]
            kinds = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
            recurrent = kinds[model.cell.name]

            self.notes = torch.nn.Embedding(model.symbols, model.embedding)
            self.convolutions = torch.nn.ModuleList(convolutions)
            self.norms = torch.nn.ModuleList(norms)
            self.recurrent = recurrent(channels[-1], model.hidden, model.layers, batch_first=True)
            self.head = torch.nn.Linear(model.hidden, VOCABULARY)

        def forward(self, notes: Tensor) -> Tensor:
            z = self.notes(notes).transpose(1, 2)
            layers = zip(self.convolutions, self.norms, strict=True)
            for number, (convolution, norm) in enumerate(layers):
                # On the left alone: no note sees a later one.
                padded = torch.nn.functional.pad(z, (2**number, 0))
                z = norm(torch.relu(convolution(padded)))
            outputs, _ = self.recurrent(z.transpose(1, 2))
            return self.head(outputs)

    # In float64, too: an oracle compares gradients there.
    dtype = torch.tensor(np.zeros(0, params["head"]["kernel"].dtype)).dtype
    net = Network().to(dtype)
    weights = {}
    for name, array in torch_weights(model, params).items():
        weights[name] = torch.tensor(np.array(array))
    difference = net.load_state_dict(weights, strict=False)
    assert not difference.unexpected_keys, difference
    # Running moments are no parameters.
    assert all("running" in name or "batches" in name for name in difference.missing_keys), difference
    return net


def torch_weights(model: NoteNet, params: Variables) -> Mapping[str, np.ndarray]:
    """Return our parameters, or their gradients, under the names of `network`."""
    weights: dict[str, Tree] = {"notes.weight": params["notes"]["embedding"]}
    for number in range(len(model.convolutions)):
        taps = params[f"convolution_{number}"]["taps"]
        kernel = np.asarray(taps["kernel"])
        # Ours is one product of both taps.
        by_tap = kernel.reshape(2, -1, kernel.shape[-1])
        weights[f"convolutions.{number}.weight"] = by_tap.transpose(2, 1, 0)
        weights[f"convolutions.{number}.bias"] = taps["bias"]
        norm = params[f"norm_{number}"]
        weights[f"norms.{number}.weight"] = norm["scale"]
        weights[f"norms.{number}.bias"] = norm["bias"]

    for number in range(model.layers):
        layer = fields.cell_params(model.cell, params["stack"][f"recurrent_{number}"]["cell"])
        for name, array in convert.to_torch(model.cell.name, layer, number).items():
            weights[f"recurrent.{name}"] = array
    weights["head.weight"] = params["head"]["kernel"].T
    weights["head.bias"] = params["head"]["bias"]
    return {name: np.asarray(array) for name, array in weights.items()}
