"""The MLP: its NumPy forward pass is the torch one, its randomness is its own, its first weights are as promised."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rlce.network import MLP, Dropout, WithLogStd, numpy_forward

ACTIVATIONS = ["sigmoid", "tanh", "relu", "leaky_relu", "prelu", "silu", "gelu", "softplus"]
# Variance of a He-initialised hidden weight is this over the fan-in; of the others' 1 over the fan-in.
KAIMING = {"relu": 2.0, "leaky_relu": 2.0 / (1 + 0.01**2), "prelu": 2.0 / (1 + 0.25**2), "silu": 2.0, "gelu": 2.0}
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def rows(count: int = 50, width: int = 4, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((count, width))).astype(np.float32)


def torch_outputs(network: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(x)).numpy()


# ----------------------------------------------------------------------------------------- NumPy forward pass


@every_activation
@pytest.mark.parametrize("hidden", [(16,), (16, 8, 8)], ids=str)
def test_numpy_forward_is_the_torch_forward_and_never_stale(activation: str, hidden: tuple[int, ...]) -> None:
    network, x = MLP(4, 3, hidden, activation=activation, seed=1), rows()
    forward = numpy_forward(network)
    first = forward(x)
    np.testing.assert_allclose(first, torch_outputs(network, x), rtol=0, atol=1e-6)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.from_numpy(x)).square().mean().backward()
    optimizer.step()  # in place; the same function must see it
    second = forward(x)
    assert np.abs(second - first).max() > 1e-3
    np.testing.assert_allclose(second, torch_outputs(network, x), rtol=0, atol=1e-6)
    assert second.dtype == np.float32


@every_activation
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6])
def test_numpy_forward_for_large_inputs(activation: str, scale: float) -> None:
    """Overflow would also warn, and a warning is an error here."""
    network, x = MLP(4, 3, (16, 16), activation=activation), rows(scale=scale)
    found, expected = numpy_forward(network)(x), torch_outputs(network, x)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.7, 1.5])
def test_prelu_uses_its_learnt_slope(slope: float) -> None:
    network = MLP(4, 2, (8,), activation="prelu")
    forward = numpy_forward(network)
    assert [tuple(p.shape) for p in network.activations.parameters()] == [(1,)]
    with torch.no_grad():
        network.activations[0].weight.fill_(slope)
    np.testing.assert_allclose(forward(rows()), torch_outputs(network, rows()), rtol=0, atol=1e-6)


def test_numpy_forward_leaves_its_input_alone() -> None:
    for hidden in ((), (8,)):
        x = rows()
        numpy_forward(MLP(4, 4, hidden))(x)
        np.testing.assert_array_equal(x, rows())


def test_numpy_forward_applies_no_dropout_and_keeps_training_mode() -> None:
    network = MLP(4, 3, (32,), dropout=0.5).train()
    found = numpy_forward(network)(rows())
    assert network.training
    np.testing.assert_allclose(found, torch_outputs(network.eval(), rows()), rtol=0, atol=1e-6)


def test_numpy_forward_of_a_foreign_module_runs_in_evaluation_mode_and_restores_training_mode() -> None:
    with torch.random.fork_rng():
        network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    network(torch.from_numpy(rows(scale=3.0)))  # running statistics of some other batch
    statistics = {name: value.clone() for name, value in network.state_dict().items()}
    found = numpy_forward(network)(rows())
    assert all(module.training for module in network.modules())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, statistics[name], rtol=0, atol=0)
    np.testing.assert_allclose(found, torch_outputs(network.eval(), rows()), rtol=0, atol=1e-6)
    numpy_forward(network)(rows())
    assert not network.training


def test_numpy_forward_keeps_a_part_frozen_that_was_frozen() -> None:
    """The usual way to fine-tune: the network trains, its BatchNorm stays in evaluation mode."""
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    network[1].eval()
    numpy_forward(network)(rows())
    assert [module.training for module in network] == [True, False]


def test_numpy_forward_of_a_subclass_uses_its_own_forward() -> None:
    class Doubled(MLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    network = Doubled(4, 3)
    np.testing.assert_allclose(numpy_forward(network)(rows()), torch_outputs(network, rows()), rtol=0, atol=1e-6)


def test_numpy_forward_of_a_module_without_parameters() -> None:
    np.testing.assert_array_equal(numpy_forward(nn.ReLU())(rows()), np.maximum(rows(), 0))


# ---------------------------------------------------------------------------------------------------- dropout


def test_dropout_is_the_identity_in_evaluation_mode_and_scales_survivors_in_training() -> None:
    dropout, x = Dropout(0.3, seed=0), torch.full((200, 500), 2.0)
    assert torch.equal(dropout.eval()(x), x)
    out = dropout.train()(x)
    kept = out != 0
    torch.testing.assert_close(out[kept], torch.full((int(kept.sum()),), 2.0 / 0.7))
    error = math.sqrt(0.3 * 0.7 / x.numel())
    assert abs(kept.double().mean() - 0.7) < 4 * error  # the seed is fixed
    assert not torch.equal(dropout(x), out)  # a new mask at every call
    assert torch.equal(Dropout(0.0, seed=0).train()(x), x)


def test_the_seed_fixes_weights_and_masks_and_each_layer_has_its_own() -> None:
    def passes(seed: int) -> list[torch.Tensor]:
        network = MLP(4, 3, (32, 32), dropout=0.5, seed=seed).train()
        return [network(torch.from_numpy(rows())) for _ in range(3)]

    first, again, other = passes(3), passes(3), passes(4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])
    one, two = MLP(4, 3, (32, 32), dropout=0.5).train().dropouts
    assert not torch.equal(one(torch.ones(8, 32)), two(torch.ones(8, 32)))


@pytest.mark.parametrize("initialization", ["orthogonal", "kaiming", "glorot", "uniform"])
def test_the_global_generator_is_neither_read_nor_advanced(initialization: str) -> None:
    def run() -> torch.Tensor:
        network = MLP(4, 3, (8, 8), activation="prelu", dropout=0.5, initialization=initialization).train()
        return network(torch.from_numpy(rows()))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = torch.get_rng_state()
        first = run()
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(1)
        assert torch.equal(run(), first)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_network_that_has_dropped_out_can_be_copied(copied: Any) -> None:
    network = MLP(4, 3, (16,), dropout=0.5).train()
    network(torch.from_numpy(rows()))
    twin = copied(network)
    np.testing.assert_array_equal(torch_outputs(twin.eval(), rows()), torch_outputs(network.eval(), rows()))
    fresh = MLP(4, 3, (16,), dropout=0.5).train()
    np.testing.assert_array_equal(torch_outputs(twin.train(), rows()), torch_outputs(fresh, rows()))
    with torch.no_grad():
        twin.layers[0].weight.zero_()
    assert (network.layers[0].weight != 0).any()


# --------------------------------------------------------------------------------------------- initialization


@pytest.mark.parametrize(("activation", "gain"), [("tanh", 2**0.5), ("sigmoid", 1.0), ("relu", 2**0.5)])
@pytest.mark.parametrize("width", [4, 30], ids=["narrow", "wide"])
def test_orthogonal_weights_are_orthogonal_with_their_gain(activation: str, gain: float, width: int) -> None:
    network = MLP(12, 3, (width,), activation=activation, output_gain=0.01)
    for layer, expected in zip(network.layers, (gain, 0.01), strict=True):
        weight = layer.weight.detach().double()
        product = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        np.testing.assert_allclose(product, expected**2 * np.eye(len(product)), rtol=0, atol=1e-6)
        assert (layer.bias == 0).all()


@every_activation
def test_kaiming_weights_have_their_variance(activation: str) -> None:
    network = MLP(300, 300, (400,), activation=activation, initialization="kaiming", output_gain=0.1)
    hidden, last = (layer.weight.detach().double() for layer in network.layers)
    for weight, expected in ((hidden, KAIMING.get(activation, 1.0) / 300), (last, 0.1**2 / 400)):
        # The relative standard error of a variance of n normal draws is sqrt(2/n); mean 0 to sd/sqrt(n).
        n = weight.numel()
        assert abs(weight.var() / expected - 1) < 4 * math.sqrt(2 / n)
        assert abs(weight.mean()) < 4 * math.sqrt(expected / n)


@pytest.mark.parametrize("initialization", ["orthogonal", "kaiming", "glorot", "uniform"])
def test_output_gain_scales_the_last_layer_alone(initialization: str) -> None:
    one = MLP(4, 3, (8,), initialization=initialization)
    small = MLP(4, 3, (8,), initialization=initialization, output_gain=0.01)
    torch.testing.assert_close(small.layers[0].weight, one.layers[0].weight, rtol=0, atol=0)
    torch.testing.assert_close(small.layers[1].weight, 0.01 * one.layers[1].weight, rtol=1e-6, atol=0)


def test_without_hidden_layers_the_network_is_linear() -> None:
    network, x = MLP(4, 3, ()), rows()
    assert [tuple(p.shape) for p in network.parameters()] == [(3, 4), (3,)]
    weight, bias = (p.detach().numpy() for p in network.parameters())
    np.testing.assert_allclose(numpy_forward(network)(x), x @ weight.T + bias, rtol=0, atol=1e-6)
    np.testing.assert_allclose(torch_outputs(network, x), x @ weight.T + bias, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"activation": "swish"},
            "activation must be one of sigmoid, tanh, relu, leaky_relu, prelu, silu, gelu, softplus",
        ),
        (
            {"initialization": "xavier"},
            "initialization must be one of orthogonal, kaiming, glorot, uniform, got 'xavier'",
        ),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must lie in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout must lie in \[0, 1\)"),
        ({"hidden": (8, 0)}, r"hidden.*must be whole numbers of at least 1, got \[4, 8, 0, 3\]"),
        ({"hidden": (8.5,)}, "hidden.*must be whole numbers"),
        ({"n_inputs": 0}, "n_inputs.*must be whole numbers of at least 1"),
        ({"n_outputs": -1}, "n_outputs.*must be whole numbers of at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**{"n_inputs": 4, "n_outputs": 3, **arguments})


@pytest.mark.parametrize("kind", ["MLP", "foreign"])
def test_means_with_a_log_std_are_the_same_in_numpy_and_never_stale(kind: str) -> None:
    means: nn.Module = MLP(3, 2, (8,)) if kind == "MLP" else nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    network = WithLogStd(means, 2, initial=-0.5)
    forward, x = numpy_forward(network), np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for _ in range(2):
        network.eval()
        expected = network(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(forward(x), expected, atol=1e-6)
        assert forward(x).dtype == np.float32
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.3)
    assert expected.shape == (5, 4)
    np.testing.assert_allclose(expected[:, 2:], -0.2)
    assert network(torch.zeros(2, 7, 3)).shape == (2, 7, 4)
    (gradient,) = torch.autograd.grad(network(torch.zeros(5, 3))[:, 2:].sum(), network.log_std)
    assert gradient.tolist() == [5.0, 5.0]


def test_log_std_takes_the_dtype_of_the_means() -> None:
    assert WithLogStd(MLP(3, 2).double(), 2).log_std.dtype == torch.float64


def test_uniform_weights_and_biases_lie_within_one_over_the_root_of_the_layer_s_input() -> None:
    network = MLP(4, 200, (40_000,), initialization="uniform", output_gain=0.5)
    for layer, bound, gain in zip(network.layers, (0.5, 0.005), (1.0, 0.5), strict=True):
        for parameter, factor in ((layer.weight, gain), (layer.bias, 1.0)):
            assert isinstance(parameter, torch.Tensor)
            most, spread = parameter.abs().max().item() / factor, parameter.std().item() / factor
            assert 0.98 * bound < most <= bound
            assert spread == pytest.approx(bound / 3**0.5, rel=0.15)


def test_glorot_weights_are_uniform_between_their_bounds() -> None:
    network = MLP(300, 200, (400,), initialization="glorot", output_gain=0.5)
    for layer, gain in zip(network.layers, (1.0, 0.5), strict=True):
        bound = gain * math.sqrt(6 / sum(layer.weight.shape))  # type: ignore[union-attr]
        assert 0.99 * bound < layer.weight.abs().max() <= bound  # type: ignore[operator, union-attr]
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)  # type: ignore[operator, union-attr]
