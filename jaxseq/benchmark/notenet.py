"""A training step of the chorales' network of notes (Géron 2019), by us and by torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseq.benchmark import compare, floors, machine, peers, workloads
from jaxseq.benchmark.peers import ADAM, RATE, Given, Trainer
from jaxseq.benchmark.workloads import Product, Workload
from jaxseq.cells import CELLS, convert
from jaxseq.common.arrays import Batch
from jaxseq.music.networks.layers import BOOK_EPSILON, BOOK_MOMENTUM
from jaxseq.music.networks.note_net import NoteNet
from jaxseq.music.networks.objectives import next_symbol
from jaxseq.music.tokens import VOCABULARY
from jaxseq.nn import fields
from jaxseq.train import epoch

LOAD = workloads.CHORALE
CONVOLUTIONS = (32, 48, 64, 96)
EMBEDDING = 5


def products(load: Workload, channels: tuple[int, ...] = CONVOLUTIONS) -> list[Product]:
    """Those of the recurrent layer and the head, and of the convolutions of two taps below them."""
    steps, gates = load.window * load.batch, CELLS[load.cell].gate_count * load.hidden
    found = [*workloads.products(load), Product(1, steps, gates, load.features)]
    for inputs, outputs in itertools.pairwise((EMBEDDING, *channels)):
        found += [Product(1, steps, 2 * inputs, outputs), Product(1, 2 * inputs, steps, outputs)]
        found.append(Product(1, steps, outputs, 2 * inputs))
    return found


def given(load: Workload, channels: tuple[int, ...] = CONVOLUTIONS) -> Given:
    """Weights from our initialisers, notes and targets drawn evenly."""
    model = NoteNet(CELLS[load.cell], load.hidden, load.layers, channels, EMBEDDING, load.outputs)
    setup = epoch.Setup(model, next_symbol(), ADAM)
    notes = np.random.default_rng(0).integers(0, load.outputs, (load.batch * load.steps, load.window + 1))
    x = jnp.array(np.stack([notes[:, :-1], np.zeros_like(notes[:, 1:])], axis=-1), jnp.int32)
    state = jax.jit(epoch.init, static_argnums=0)(setup, jax.random.key(1), x[:1])
    return Given(setup, state, Batch(x, jnp.array(notes[:, 1:], jnp.int32)))


def measure(load: Workload, rounds: int, device: str = "cpu") -> compare.Result:
    """Our step, the floor's and torch's; nobody else has this network."""
    start = given(load)
    why: dict[str, str | None] = dict.fromkeys(machine.PEERS[device], "not timed")
    why["torch"] = machine.absent("torch", load.cell, device)
    mine, wanted = peers.ours(load, start), products(load)
    works: dict[str, Callable[[], Any]] = {"ours": mine.work, "floor": floors.floor(load, wanted)}
    if why["torch"] is None:
        works["torch"] = torch(load, start, "cuda" if device == "gpu" else "cpu").work
    times = compare.in_turn(works, load, rounds, device)
    ratios = {"torch": times["torch"] / times["ours"]} if "torch" in times else {}
    return compare.result(load, mine, times, ratios, why, sum(product.flops for product in wanted))


def torch(load: Workload, start: Given, device: str = "cpu") -> Trainer:
    """The same network of torch's layers, eager, with `torch.optim.Adam`; on a CPU on one thread."""
    import torch as t

    t.set_num_threads(1)
    t.backends.cuda.matmul.allow_tf32 = t.backends.cudnn.allow_tf32 = False
    model = start.setup.model
    assert isinstance(model, NoteNet), "the workload builds this network"
    net = network(model, start.state.params).to(device)
    adam = t.optim.Adam(net.parameters(), lr=RATE)
    inputs = t.tensor(np.array(start.data.x[..., 0]), device=device, dtype=t.long).split(load.batch)
    targets = t.tensor(np.array(start.data.y), device=device, dtype=t.long).split(load.batch)

    def work() -> np.ndarray:
        t.set_flush_denormal(True)
        losses = []
        for x, y in zip(inputs, targets, strict=True):
            adam.zero_grad()
            loss = t.nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten())
            loss.backward()
            adam.step()
            losses.append(loss.detach())
        t.set_flush_denormal(False)  # a switch of the whole thread
        return t.stack(losses).cpu().numpy()

    return Trainer(work, sum(p.numel() for p in net.parameters()))


def network(model: NoteNet, params: Any) -> Any:
    """The same network as a `torch.nn.Module` with these parameters, in training mode: "b t" notes to "b t v" logits."""
    import torch as t

    class Net(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels = (model.embedding, *model.convolutions)
            self.notes = t.nn.Embedding(model.symbols, model.embedding)
            self.convolutions = t.nn.ModuleList(
                t.nn.Conv1d(a, b, 2, dilation=2**n) for n, (a, b) in enumerate(itertools.pairwise(channels))
            )
            options = {"eps": BOOK_EPSILON, "momentum": 1 - BOOK_MOMENTUM}
            self.norms = t.nn.ModuleList(t.nn.BatchNorm1d(b, **options) for b in model.convolutions)
            kind = {"rnn": t.nn.RNN, "lstm": t.nn.LSTM, "gru": t.nn.GRU}[model.cell.name]
            self.recurrent = kind(channels[-1], model.hidden, model.layers, batch_first=True)
            self.head = t.nn.Linear(model.hidden, VOCABULARY)

        def forward(self, notes: Any) -> Any:
            z = self.notes(notes).transpose(1, 2)
            for n, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
                z = norm(t.relu(convolution(t.nn.functional.pad(z, (2**n, 0)))))
            return self.head(self.recurrent(z.transpose(1, 2))[0])

    net = Net().to(t.tensor(np.zeros(0, params["head"]["kernel"].dtype)).dtype)
    weights = {name: t.tensor(np.array(array)) for name, array in torch_weights(model, params).items()}
    missing = net.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys and all("running" in k or "batches" in k for k in missing.missing_keys), missing
    return net


def torch_weights(model: NoteNet, params: Any) -> dict[str, np.ndarray]:
    """Our parameters (or their gradients) under the names of `network`."""
    found: dict[str, Any] = {"notes.weight": params["notes"]["embedding"]}
    for n in range(len(model.convolutions)):
        taps, norm = params[f"convolution_{n}"]["taps"], params[f"norm_{n}"]
        kernel = np.asarray(taps["kernel"])
        found[f"convolutions.{n}.weight"] = kernel.reshape(2, -1, kernel.shape[-1]).transpose(2, 1, 0)
        found |= {f"convolutions.{n}.bias": taps["bias"]}
        found |= {f"norms.{n}.weight": norm["scale"], f"norms.{n}.bias": norm["bias"]}
    for n in range(model.layers):
        layer = fields.cell_params(model.cell, params["stack"][f"recurrent_{n}"]["cell"])
        found |= {f"recurrent.{name}": w for name, w in convert.to_torch(model.cell.name, layer, n).items()}
    found |= {"head.weight": params["head"]["kernel"].T, "head.bias": params["head"]["bias"]}
    return {name: np.asarray(array) for name, array in found.items()}
