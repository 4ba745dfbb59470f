"""`export`: a trained model as one ONNX file, with everything before and after its network.

inputs ─► standardised ─► network ─► temperature, prior, unit … ─► probabilities, a choice or a number
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rlce import checkpoint
from rlce.data import Standardizer
from rlce.heads import Bernoulli, ClassHead, Gaussian
from rlce.reinforcement import masks, spaces
from rlce.reinforcement.policy_gradient import PolicyGradient
from rlce.supervised.classifier import Classifier
from rlce.supervised.regressor import Regressor
from rlce.version import __version__


class _Answer(NamedTuple):
    """One output of the file."""

    meaning: str
    of: Callable[[Tensor], Tensor]  # the network's outputs, [N, n_outputs] → this output, [N, ...]


class _Plan(NamedTuple):
    """A network and everything around it."""

    network: nn.Module
    n_inputs: int  # D
    standardizer: Standardizer | None
    answers: dict[str, _Answer]
    about: dict[str, Any]  # metadata that depends on the model
    mask: int = 0  # K if a mask is an input too


class _Supported(TorchFunctionMode):
    """Writes two functions in other operators, because of what the exporter and onnxruntime make of them.

    onnxruntime has no Softplus for float64. torch exports log σ(z) as Log(Sigmoid(z)), which is −∞ below z = −88.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.logsigmoid:
            return args[0].clamp(max=0) - (-args[0].abs()).exp().log1p()
        if func is F.softplus and args[0].dtype == torch.float64:
            return torch.where(args[0] > 20, args[0], args[0].exp().log1p())
        return func(*args, **(kwargs or {}))


class _Deployed(nn.Module):
    """A plan as one module, on a copy of its network."""

    mean: Tensor
    rest: Tensor
    scale: Tensor

    def __init__(self, plan: _Plan, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = copy.deepcopy(plan.network).to("cpu", torch.float32)
        self.answers = [answer.of for answer in plan.answers.values()]
        self.dtype, self.standardizer = dtype, plan.standardizer
        if self.standardizer is not None:
            mean = torch.from_numpy(self.standardizer.mean)
            self.register_buffer("mean", mean.to(dtype))
            # What float32 loses of a large mean is subtracted on its own, so that the result is as in training.
            self.register_buffer("rest", (mean - mean.to(dtype)).to(dtype))
            self.register_buffer("scale", torch.from_numpy(self.standardizer.scale).to(dtype))

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """``[N, D]``, and ``[N, K]`` if there is a mask → the answers."""
        if self.standardizer is not None:
            inputs = (inputs - self.mean - self.rest) * self.scale
            if self.standardizer.clip is not None:
                inputs = inputs.clamp(-self.standardizer.clip, self.standardizer.clip)
        with _Supported():
            outputs = self.network(inputs.to(torch.float32)).to(self.dtype)
            outputs = outputs if mask is None else masks.hide(outputs, mask)
            return tuple(answer(outputs) for answer in self.answers)


def export(
    model: Classifier | Regressor | PolicyGradient | nn.Module,
    path: str | os.PathLike[str],
    *,
    hard: bool = False,
    n_inputs: int | None = None,
    double: bool = False,
) -> None:
    """Write a trained model as an ONNX file, atomically; needs ``pip install 'rlce[export]'``.

    The input is named "inputs", ``[N, D]`` for any N; standardisation, temperature and priors are part of the file.

    ==========================  ===========================================  =====================================
    model                       outputs                                      with ``hard``
    ==========================  ===========================================  =====================================
    `rlce.Classifier`           "probabilities" ``[N, K]``                   "label" ``[N]``, an index of classes
    … of several labels         "probabilities" ``[N, M]``, of a yes each    "labels" ``[N, M]``, zeros and ones
    `rlce.Regressor`            "prediction" ``[N]``; for "quantile" and     an error
                                "gaussian" also "quantiles" ``[N, L]``
    `rlce.PolicyGradient`       "probabilities" ``[N, K]``: of every class,  "action" ``[N, ...]``, the most
                                ``[N, ΣK]``: of every component's,           probable, as `predict` gives it
                                ``[N, L]``: of a yes; "action" for a Box     where ``deterministic``
    ends in Softmax             "probabilities", as the module gives them    "label", its argmax
    ends in LogSoftmax          "log_probabilities"                          "label", its argmax
    ends in Sigmoid             "probabilities"                              "labels", 1 where its input is > 0
    ends in Tanh                "outputs"                                    "signs", −1, 0 or 1
    any other module            "outputs"                                    an error
    ==========================  ===========================================  =====================================

    Choices are int64, and a hard output computes no exponential. A policy's inputs are rows as
    `rlce.reinforcement.spaces.flatten_batch` makes them of observations. Where a part of the observation is a mask,
    "mask" ``[N, K]`` (bool) is a second input; masks that come in an environment's info are no part of the file.
    Nothing is checked when the file is used: NaN in a row gives NaN, or a choice that means nothing.

    The file's metadata has one entry, "rlce": JSON with the library's version, the kind of model, names and shapes of
    inputs and outputs, and ``classes``, ``feature_names``, levels of quantiles, conformal widenings (in the targets'
    unit, one a coverage) or spaces.

    Args:
        model: a fitted estimator, an agent, or any ``torch.nn.Module`` that maps ``[N, D]``. It is not changed: a
            network in double precision, or on another device, is copied.
        path: the file; an existing one is replaced whole.
        hard: choices in place of probabilities.
        n_inputs: D, for a module, whose width nothing else tells.
        double: inputs and real-valued outputs as float64, and everything but the network with them. float32 has 24
            bits: columns such as 1e6 ± 1 have lost most of what they say before anything can subtract their mean.

    Raises:
        ModuleNotFoundError: onnx or onnxscript are not installed.
        sklearn.exceptions.NotFittedError: an estimator before `fit`.
        TypeError: ``model`` is none of these.
        ValueError: ``hard`` for a model that makes no choice, ``n_inputs`` missing or not asked for, a network that
            torch cannot export for any N, class labels that JSON cannot hold, or a file that cannot be written.

    Example:
        >>> import tempfile
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=-1))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     export(network, f"{directory}/network.onnx", n_inputs=4, hard=True)
        ...     os.listdir(directory)
        ['network.onnx']
    """
    onnx = _onnx()
    dtype = torch.float64 if double else torch.float32
    plan = _plan(model, hard, n_inputs, dtype)
    example = {"inputs": torch.zeros(2, plan.n_inputs, dtype=dtype)}
    if plan.mask:
        example["mask"] = torch.ones(2, plan.mask, dtype=torch.bool)
    about = {
        "rlce": __version__,
        "kind": type(model).__name__,
        "hard": hard,
        "inputs": {name: ["N", *tensor.shape[1:]] for name, tensor in example.items()},
        "outputs": {name: answer.meaning for name, answer in plan.answers.items()},
        **plan.about,
    }
    checkpoint.check_json("model: its classes", about)
    proto = _to_onnx(_Deployed(plan, dtype).eval(), example, list(plan.answers))
    _forget_origins(proto)
    proto.metadata_props.add(key="rlce", value=json.dumps(about, ensure_ascii=False))
    onnx.checker.check_model(proto, full_check=True)
    checkpoint.write_atomically(path, proto.SerializeToString(deterministic=True))


def _to_onnx(graph: nn.Module, example: dict[str, Tensor], answers: list[str]) -> Any:
    """The graph as torch writes it down, for any number of rows."""
    refusal = f"model: its network cannot be exported for inputs [N, {example['inputs'].shape[1]}]"
    with _quiet(), torch.no_grad():
        try:
            graph(*example.values())  # what fails here fails in a line, not in pages of the exporter's
            program = torch.onnx.export(
                graph,
                tuple(example.values()),
                input_names=list(example),
                output_names=answers,
                dynamic_shapes=({0: torch.export.Dim("N")},) * len(example),
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # whatever a network of the user's own may raise
            raise ValueError(f"{refusal}: {str(error.__cause__ or error).strip()}") from error
    assert program is not None
    proto = program.model_proto
    # Where the network's code holds for the example's number of rows alone, the exporter fixes it without a word.
    if any(given.type.tensor_type.shape.dim[0].dim_param != "N" for given in proto.graph.input):
        raise ValueError(f"{refusal} and any N: its code depends on the number of rows")
    return proto


def _plan(model: Any, hard: bool, n_inputs: int | None, dtype: torch.dtype) -> _Plan:
    if isinstance(model, nn.Module):
        if not isinstance(n_inputs, int | np.integer) or n_inputs < 1:
            raise ValueError(f"n_inputs must be the width of a module's rows, at least 1, got {n_inputs!r}")
        return _of_module(model, hard, int(n_inputs))
    if n_inputs is not None:
        raise ValueError(f"n_inputs is for a torch.nn.Module; a {type(model).__name__} knows its own, got {n_inputs!r}")
    if isinstance(model, PolicyGradient):
        return _of_policy(model, hard)
    if not isinstance(model, Classifier | Regressor):
        raise TypeError(
            "model must be a rlce.Classifier, rlce.Regressor, rlce.PolicyGradient or torch.nn.Module, "
            f"got {type(model).__name__}"
        )
    check_is_fitted(model)
    return _of_classifier(model, hard) if isinstance(model, Classifier) else _of_regressor(model, hard)


def _of_classifier(model: Classifier, hard: bool) -> _Plan:
    answers, several = model.fitted_.about.answers(model.prior), model.fitted_.about.labels.several
    if hard:
        said = {"labels": "[N, M], 1 where the class applies"} if several else {"label": "[N], an index of classes"}
    else:
        said = {"probabilities": f"[N, {'M], that the class applies' if several else 'K], in the order of classes'}"}
    of = answers.choices if hard else answers.probabilities
    return _of_estimator(
        model, {name: _Answer(meaning, of) for name, meaning in said.items()}, {"classes": model.classes_.tolist()}
    )


def _of_regressor(model: Regressor, hard: bool) -> _Plan:
    if hard:
        raise ValueError("hard: a regressor predicts numbers, there is no choice to make")
    known = model.fitted_.about
    answers = {"prediction": _Answer("[N], in the targets' unit", known.prediction)}
    about: dict[str, Any] = {}
    if known.conformal is not None:
        about["conformal"] = dict(
            zip(("coverages", "widenings"), (part.tolist() for part in known.conformal), strict=True)
        )
    if known.head.widest is not None:
        levels = np.array(known.levels)
        of = functools.partial(known.quantiles, levels=levels)
        answers["quantiles"] = _Answer("[N, L], at the levels of quantiles", of)
        about["quantiles"] = levels.tolist()
    return _of_estimator(model, answers, about)


def _of_estimator(model: Classifier | Regressor, answers: dict[str, _Answer], about: dict[str, Any]) -> _Plan:
    names = getattr(model, "feature_names_in_", None)
    about = {**about, "feature_names": None if names is None else names.tolist()}
    training = model.fitted_.training
    standardizer = training.standardizer if training.standardizer.count else None
    return _Plan(training.network, model.n_features_in_, standardizer, answers, about)


def _of_policy(agent: PolicyGradient, hard: bool) -> _Plan:
    space, head, actions = agent.action_space, agent.head, agent.actions
    shape = ["N", *(space.shape or ())]

    def action(outputs: Tensor) -> Tensor:
        sent = actions.to_environment(head.mode(outputs))
        return sent if isinstance(head, Gaussian) else sent.long()

    if isinstance(head, Gaussian):
        answers = {"action": _Answer(f"{shape}, the mean within its bounds", action)}
    elif hard:
        answers = {"action": _Answer(f"{shape}, as the environment wants it", action)}
    else:
        assert isinstance(head, ClassHead)
        meaning = "[N, L], of a one" if isinstance(head, Bernoulli) else "[N, ΣK], of every component's classes in turn"
        answers = {"probabilities": _Answer(meaning, head.probabilities)}
    about = {
        "observation_space": spaces.to_json(agent.observation_space),
        "action_space": spaces.to_json(space),
    }
    width = spaces.flat_width(masks.input_space(agent.observation_space, space))
    mask = head.n_outputs if masks.in_observation(agent.observation_space) else 0
    return _Plan(agent.policy, width, agent.normalizer, answers, about, mask)


def _of_module(module: nn.Module, hard: bool, n_inputs: int) -> _Plan:
    before, last = _last_layer(module)
    if isinstance(last, nn.Softmax | nn.LogSoftmax):
        name = "probabilities" if isinstance(last, nn.Softmax) else "log_probabilities"
        dim = -1 if last.dim is None else last.dim
        choice = "label", _Answer("the argmax of its softmax", lambda z: z.argmax(dim=dim))
    elif isinstance(last, nn.Sigmoid):
        name, choice = "probabilities", ("labels", _Answer("1 where its sigmoid lies above a half", _unit_step))
    elif isinstance(last, nn.Tanh):
        name, choice = "outputs", ("signs", _Answer("the sign of its tanh", lambda z: z.sign().long()))
    elif hard:
        raise ValueError(
            "hard needs a torch.nn.Sequential whose last layer is Softmax, LogSoftmax, Sigmoid or Tanh, "
            f"got {type(last).__name__} at the end"
        )
    else:
        name = "outputs"
    if hard:
        return _Plan(before, n_inputs, None, dict([choice]), {})
    return _Plan(module, n_inputs, None, {name: _Answer("as the module gives it", lambda z: z)}, {})


def _last_layer(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    """What comes before a module's last layer, and that one."""
    if isinstance(module, nn.Sequential) and len(module) and type(module).forward is nn.Sequential.forward:
        before, last = _last_layer(module[-1])
        return nn.Sequential(*list(module)[:-1], before), last
    return nn.Identity(), module


def _unit_step(outputs: Tensor) -> Tensor:
    return (outputs > 0).long()


def _forget_origins(proto: Any) -> None:
    """Drop what the exporter notes of where nodes came from: source files and lines of whoever exports."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.ClearField("doc_string")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about itself: no torchvision, a deprecation in torch, two axes of one name."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name: N will not be used, since it shares", UserWarning)
            yield
    finally:
        log.setLevel(level)


def _onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter is written in it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "an ONNX file is written with onnx and onnxscript: pip install 'rlce[export]'"
        ) from error
    return onnx
