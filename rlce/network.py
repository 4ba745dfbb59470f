"""The multilayer perceptron of policies, critics and estimators, its fast NumPy forward pass, and networks of users."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NetworkFactory = Callable[[int, int], nn.Module]
Forward = Callable[[NDArray[np.float32]], NDArray[Any]]


def _sigmoid(x: NDArray[np.float32]) -> Any:
    # tanh never overflows, exp(−x) would: σ(x) = ½(1 + tanh(x/2)).
    return np.multiply(np.tanh(x * np.float32(0.5)) + 1, np.float32(0.5))


def _gelu(x: NDArray[np.float32], _: Any) -> object:
    from scipy.special import erf

    half = erf(x * np.float32(math.sqrt(0.5)))
    half += 1
    half *= np.float32(0.5)
    return np.multiply(x, half, out=x)


# Name → (torch module, slope of a rectifier's negative half or None, the same in place on an array and a learnt slope).
_ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], float | None, Callable[..., object]]] = {
    "sigmoid": (nn.Sigmoid, None, lambda x, _: np.copyto(x, _sigmoid(x))),
    "tanh": (nn.Tanh, None, lambda x, _: np.tanh(x, out=x)),
    "relu": (nn.ReLU, 0.0, lambda x, _: np.maximum(x, 0.0, out=x)),
    "leaky_relu": (nn.LeakyReLU, 0.01, lambda x, _: np.maximum(x, 0.01 * x, out=x)),
    "prelu": (nn.PReLU, 0.25, lambda x, slope: np.copyto(x, slope * x, where=x < 0)),
    # Far from 0, SiLU and GELU are rectifiers.
    "silu": (nn.SiLU, 0.0, lambda x, _: np.multiply(x, _sigmoid(x), out=x)),
    "gelu": (nn.GELU, 0.0, _gelu),
    "softplus": (nn.Softplus, None, lambda x, _: np.logaddexp(x, np.float32(0.0), out=x)),
}
_INITIALIZATIONS = ("orthogonal", "kaiming", "glorot", "uniform")


class Dropout(nn.Module):
    """Inverted dropout with its own generator, so that a seed fixes it and no global state changes.

    Args:
        rate: the probability of zeroing a unit in training, rounded to a multiple of 1/65,536; the others are scaled by
            1/(1 − rate).
        seed: of the generator, which is made on the input's device at the first use.

    Source:
        Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self.rate, self.seed = rate, seed
        self._generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` → ``[..., D]``; the identity in evaluation mode."""
        if not self.training or self.rate == 0.0:
            return x
        if self._generator is None or self._generator.device != x.device:
            self._generator = torch.Generator(x.device).manual_seed(self.seed)
        # Sixteen random bits a unit are enough, and a draw gives 64: a quarter of the draws that torch.rand would need.
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        bits = draws.random_(-(2**63), None, generator=self._generator).view(torch.int16)[: x.numel()].view(x.shape)
        dropped = min(round(self.rate * 2**16), 2**16 - 1)
        factor = torch.ge(bits, dropped - 2**15, out=torch.empty_like(x))
        return x * factor.mul_(2**16 / (2**16 - dropped))

    def restart(self, seed: int) -> None:
        """Begin another stream of draws."""
        self.seed, self._generator = seed, None

    def __getstate__(self) -> dict[str, Any]:
        """A generator cannot be pickled or deep-copied; the copy starts its stream again."""
        return {**self.__dict__, "_generator": None}


class MLP(nn.Module):
    """Multilayer perceptron: n_inputs → hidden … → n_outputs, with an activation after each hidden layer.

    Args:
        n_inputs: width of a row of inputs.
        n_outputs: width of a row of outputs; the last layer is linear.
        hidden: widths of the hidden layers; empty for a linear model.
        activation: "sigmoid", "tanh", "relu", "leaky_relu", "prelu" (one learnt slope per layer), "silu" (Elfwing et
            al. 2018, arXiv 1702.03118), "gelu" (Hendrycks and Gimpel 2016, arXiv 1606.08415) or "softplus".
        dropout: probability of zeroing a hidden unit in training, in [0, 1).
        initialization: "orthogonal", "kaiming" (He et al. 2015, arXiv 1502.01852) or "glorot" (uniform; Glorot and
            Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"), all with biases
            of zero; or "uniform", weights and biases in ±1/√(width of the layer's input), as in torch.nn.Linear. With
            few inputs, only its units begin with bends in different places.
        output_gain: factor on the initial weights of the last layer; with 0.01 a policy starts almost uniform.
        seed: of the initial weights and of dropout; torch's global generator is not used.

    Raises:
        ValueError: for a width below 1, an unknown name, or a dropout outside [0, 1).

    Example:
        >>> network = MLP(4, 2, hidden=(8,), activation="relu")
        >>> network(torch.zeros(5, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        hidden: Sequence[int] = (64, 64),
        *,
        activation: str = "tanh",
        dropout: float = 0.0,
        initialization: str = "orthogonal",
        output_gain: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        if initialization not in _INITIALIZATIONS:
            raise ValueError(f"initialization must be one of {', '.join(_INITIALIZATIONS)}, got {initialization!r}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        widths = [n_inputs, *hidden, n_outputs]
        if any(not isinstance(width, int | np.integer) or isinstance(width, bool) or width < 1 for width in widths):
            raise ValueError(f"n_inputs, hidden and n_outputs must be whole numbers of at least 1, got {widths}")
        make, slope, _ = _ACTIVATIONS[activation]
        layers: list[nn.Linear] = [nn.utils.skip_init(nn.Linear, *pair) for pair in itertools.pairwise(widths)]
        self.layers = nn.ModuleList(layers)
        self.activations = nn.ModuleList(make() for _ in hidden)
        self.dropouts = nn.ModuleList(Dropout(dropout, seed + 1 + i) for i in range(len(hidden) if dropout else 0))
        self.activation_name = activation
        generator = torch.Generator().manual_seed(seed)
        hidden_gain = 1.0 if slope is None else math.sqrt(2.0 / (1.0 + slope**2))
        if initialization == "orthogonal" and activation == "tanh":
            hidden_gain = math.sqrt(2.0)  # as is usual for policies
        for layer in layers:
            nn.init.zeros_(layer.bias)
            gain = 1.0 if layer is layers[-1] else hidden_gain
            if initialization == "orthogonal":
                nn.init.orthogonal_(layer.weight, gain, generator=generator)
            elif initialization == "glorot":
                nn.init.xavier_uniform_(layer.weight, generator=generator)
            elif initialization == "kaiming":
                nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.in_features), generator=generator)
            else:
                bound = 1.0 / math.sqrt(layer.in_features)
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        layers[-1].weight.data.mul_(output_gain)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., n_inputs]`` → ``[..., n_outputs]``."""
        *hidden, last = self.layers
        for layer, activation, dropout in itertools.zip_longest(hidden, self.activations, self.dropouts):
            x = activation(layer(x))
            if dropout is not None:
                x = dropout(x)
        return last(x)


def check_layers(widths: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
    """Refuse widths, such as those a file names, that are not the widths of an MLP's tensors.

    Args:
        widths: of inputs, hidden layers and outputs.
        tensors: what an MLP's ``state_dict`` gave.

    Raises:
        ValueError: they differ.

    Example:
        >>> check_layers([4, 8, 2], MLP(4, 2, hidden=(8,)).state_dict())
    """
    expected = {f"layers.{i}.weight": pair[::-1] for i, pair in enumerate(itertools.pairwise(widths))}
    found = {name: tuple(t.shape) for name, t in tensors.items() if name.startswith("layers.") and t.ndim == 2}
    if found != expected:
        raise ValueError(f"its settings ask for layers of the widths {widths}, but its tensors are {found}")


class WithLogStd(nn.Module):
    """A network of means with learnt log standard deviations that do not depend on the input.

    Args:
        network: ``[..., D_in]`` → means ``[..., D]``.
        dimensions: D.
        initial: initial log standard deviation; 0 is a standard deviation of 1.

    Source:
        Schulman et al. (2015), "Trust region policy optimization", arXiv 1502.05477, section 8.1.

    Example:
        >>> network = WithLogStd(MLP(3, 2), 2)
        >>> network(torch.zeros(5, 3)).shape
        torch.Size([5, 4])
    """

    def __init__(self, network: nn.Module, dimensions: int, initial: float = 0.0) -> None:
        super().__init__()
        self.network = network
        like = next(network.parameters(), torch.empty(0))
        self.log_std = nn.Parameter(torch.full((dimensions,), initial, dtype=like.dtype, device=like.device))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D_in]`` → ``[..., 2D]``: means, then log standard deviations."""
        mean = self.network(x)
        return torch.cat((mean, self.log_std.expand_as(mean)), dim=-1)


def numpy_forward(network: nn.Module) -> Forward:
    """A NumPy function ``[B, n_inputs]`` → ``[B, n_outputs]`` without dropout, for acting and predicting.

    For an `MLP` on the CPU, alone or in a `WithLogStd`, it reads the live weights, because a CPU tensor and its array
    share memory. Steps in place are seen at once; make the function again if the parameters themselves are replaced.
    Any other network runs in torch's inference mode, in evaluation mode.

    Example:
        >>> network = MLP(4, 2)
        >>> x = np.ones((3, 4), np.float32)
        >>> np.allclose(numpy_forward(network)(x), network(torch.from_numpy(x)).detach(), atol=1e-6)
        True
    """
    if type(network) is WithLogStd:
        means, log_std = numpy_forward(network.network), network.log_std.detach()

        def with_log_std(x: NDArray[np.float32]) -> NDArray[Any]:
            mean = means(x)
            return np.concatenate((mean, np.broadcast_to(log_std.cpu().numpy(), mean.shape)), axis=-1)

        return with_log_std
    first = next(network.parameters(), torch.empty(0))
    if type(network) is not MLP or first.device.type != "cpu" or first.dtype not in (torch.float32, torch.float64):

        def in_torch(x: NDArray[np.float32]) -> NDArray[Any]:
            with evaluation_mode(network), torch.inference_mode():
                return network(torch.from_numpy(x).to(first.device, first.dtype)).cpu().numpy()

        return in_torch
    weights = [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in network.layers]  # type: ignore[operator]
    slopes: list[Any] = [next((p.detach().numpy() for p in each.parameters()), None) for each in network.activations]
    activate = _ACTIVATIONS[network.activation_name][2]

    def forward(x: NDArray[np.float32]) -> NDArray[Any]:
        for (weight, bias), slope in zip(weights, slopes, strict=False):
            x = x @ weight
            x += bias
            activate(x, slope)
        weight, bias = weights[-1]
        x = x @ weight
        x += bias
        return x

    return forward


@contextlib.contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Switch off dropout and freeze batch statistics; afterwards every module is in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:  # not network.train(): a part may be frozen
            module.training = True


def check_factory(network: Any) -> None:
    """Raise a ValueError unless ``network`` is a factory, or None."""
    if isinstance(network, nn.Module) or not (network is None or callable(network)):
        got = f"the module {network!r}" if isinstance(network, nn.Module) else repr(network)
        wanted = "network must be a factory (n_inputs, n_outputs) -> nn.Module that makes a new network"
        raise ValueError(f"{wanted}, got {got}")


def checked_device(device: str | torch.device) -> torch.device:
    """The device, once a tensor has been made on it.

    Raises:
        ValueError: if there is no such device, or this build of torch cannot use it.
    """
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f'device: {device!r} cannot be used here ({reason}); use "cpu"') from error


def build(factory: NetworkFactory, n_inputs: int, n_outputs: int, seed: int) -> nn.Module:
    """A network from a user's factory, made under a fixed seed and tried on two rows.

    Args:
        factory: ``(n_inputs, n_outputs) → nn.Module``.
        n_inputs: width of a row of inputs.
        n_outputs: width that a row of outputs must have.
        seed: of torch's global generator while the factory runs; afterwards its state is restored.

    Raises:
        TypeError: if the factory does not return a module.
        ValueError: if it is not a factory, the network fails on the rows, or its outputs have another shape or type.
    """
    check_factory(factory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = factory(n_inputs, n_outputs)
    if not isinstance(network, nn.Module):
        raise TypeError(f"network: the factory must return a torch.nn.Module, got {type(network).__name__}")
    try:
        outputs = numpy_forward(network)(np.zeros((2, n_inputs), np.float32))
    except RuntimeError as error:  # torch's error about shapes
        flat = f"rows reach it flat, here [2, {n_inputs}]; torch.nn.Unflatten gives images their shape back"
        raise ValueError(f"network: it fails on two rows ({flat}): {error}") from error
    if outputs.shape != (2, n_outputs) or outputs.dtype not in (np.float32, np.float64):
        wanted = f"for inputs [2, {n_inputs}] the outputs must be float32 or float64 [2, {n_outputs}]"
        raise ValueError(f"network: {wanted}, got {outputs.dtype} {list(outputs.shape)}")
    return network


def number_type(network: nn.Module) -> type[np.floating[Any]]:
    """The NumPy type of a network's parameters.

    Example:
        >>> number_type(MLP(2, 1)).__name__
        'float32'
    """
    first = next(network.parameters(), torch.zeros(0))
    return np.float64 if first.dtype == torch.float64 else np.float32


def in_chunks(function: Forward, rows: NDArray[Any], chunk: int = 8_192) -> NDArray[Any]:
    """Apply a function of rows to a chunk at a time, so that the hidden units of a million rows fit into memory.

    Example:
        >>> in_chunks(lambda x: 2.0 * x, np.arange(3.0), chunk=2)
        array([0., 2., 4.])
    """
    parts = [function(rows[start : start + chunk]) for start in range(0, max(1, len(rows)), chunk)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
