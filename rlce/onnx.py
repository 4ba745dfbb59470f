"""`export`: a trained model as one ONNX file, with everything before and after its network.

inputs ─► a pipeline's steps ─► scaled ─► network ─► temperature, prior, unit … ─► probabilities, choice or number
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rlce import checkpoint
from rlce.heads import Bernoulli, ClassHead, Gaussian
from rlce.onnx_columns import meanings, put_before, refuse_dates
from rlce.reinforcement import masks, spaces
from rlce.reinforcement.policy_gradient import PolicyGradient
from rlce.supervised.classifier import Classifier
from rlce.supervised.columns import Columns
from rlce.supervised.regressor import Regressor
from rlce.supervised.scaling import RobustScaling, Scaler
from rlce.version import __version__

# The outputs of the file by name: what each means, and a function of the network's outputs, [N, n_outputs] → [N, ...].
_Answers = dict[str, tuple[str, Callable[[Tensor], Tensor]]]


class _Plan(NamedTuple):
    """A network and everything around it."""

    network: nn.Module
    n_inputs: int  # D
    answers: _Answers
    about: dict[str, Any]  # metadata that depends on the model
    mask: int = 0  # K if a mask is an input too
    before: tuple[Callable[[Tensor], Tensor], ...] = ()  # steps of a pipeline and the scaling, [N, D] → [N, D']
    columns: Columns | None = None  # that become the inputs


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

    def __init__(self, plan: _Plan, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = copy.deepcopy(plan.network).to("cpu", torch.float32)
        self.answers = [of for _, of in plan.answers.values()]
        self.dtype, self.before = dtype, plan.before

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """``[N, D]``, and ``[N, K]`` if there is a mask → the answers."""
        for step in self.before:
            inputs = step(inputs)
        with _Supported():
            outputs = self.network(inputs.to(torch.float32)).to(self.dtype)
            outputs = outputs if mask is None else masks.hide(outputs, mask)
            return tuple(answer(outputs) for answer in self.answers)


def export(
    model: Classifier | Regressor | PolicyGradient | Pipeline | nn.Module,
    path: str | os.PathLike[str],
    *,
    hard: bool = False,
    n_inputs: int | None = None,
    double: bool = False,
) -> None:
    """Write a trained model as an ONNX file, as a whole or not at all; needs ``pip install 'rlce[export]'``.

    The input is "inputs", ``[N, D]`` for any N. The file includes the scaling of inputs, temperature and priors.
    An estimator that was fitted with a DataFrame of text, categories and gaps has one input for each column that it
    uses, ``[N, 1]``, named like the column: numbers (NaN is a gap) or strings ("" is a gap). Dates cannot be written.

    A ``sklearn.pipeline.Pipeline`` that ends in an estimator of this library becomes one graph. Its other steps may be
    StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, PCA, SimpleImputer (of NaN, without an indicator),
    "passthrough" and pipelines of these.

    ==========================  ===========================================  =====================================
    model                       outputs                                      with ``hard``
    ==========================  ===========================================  =====================================
    `rlce.Classifier`           "probabilities" ``[N, K]``                   "label" ``[N]``, an index of classes
    … of several labels         "probabilities" ``[N, M]``, one a label      "labels" ``[N, M]``, zeros and ones
    `rlce.Regressor`            "prediction" ``[N]``; for "quantile" and     an error
                                "gaussian" also "quantiles" ``[N, L]``
    … of M targets              "prediction" ``[N, M]``, "quantiles"         an error
                                ``[N, M, L]``
    `rlce.PolicyGradient`       "probabilities": ``[N, K]`` of the actions,  "action" ``[N, ...]``, the most
                                ``[N, ΣK]`` of each component's classes,     probable one, as `predict` with
                                ``[N, L]`` of ones; "action" for a Box       ``deterministic=True``
    ends in Softmax             "probabilities", as the module gives them    "label", its argmax
    ends in LogSoftmax          "log_probabilities"                          "label", its argmax
    ends in Sigmoid             "probabilities"                              "labels", 1 where its input is > 0
    ends in Tanh                "outputs"                                    "signs", −1, 0 or 1
    any other module            "outputs"                                    an error
    ==========================  ===========================================  =====================================

    Choices are int64 and are computed without exponentials. A policy's inputs are rows that
    `rlce.reinforcement.spaces.flatten_batch` makes of observations. If a part of the observation is a mask, there is a
    second input, "mask" ``[N, K]`` (bool). Masks from an environment's info are not in the file. The file checks no
    inputs: NaN in a row gives NaN or a meaningless choice.

    The file's metadata has one entry, "rlce". It is JSON with the library's version, the kind of model (of a pipeline's
    last step), the names and shapes of inputs and outputs, and, where they exist, ``classes``, ``feature_names``, the
    levels of quantiles, the conformal widenings (in the targets' unit, one for each coverage), and the spaces.

    Args:
        model: a fitted estimator or pipeline, an agent, or any ``torch.nn.Module`` for ``[N, D]``. It is not changed.
        path: the file; an existing one is replaced.
        hard: write choices instead of probabilities.
        n_inputs: D, only for a module.
        double: take inputs and give real-valued outputs as float64, and compute everything but the network in it.
            Use it for columns such as 1e6 ± 1: float32 has 24 bits and loses most of the difference.

    Raises:
        ModuleNotFoundError: onnx or onnxscript is not installed.
        sklearn.exceptions.NotFittedError: the estimator is not fitted.
        TypeError: ``model`` is of another type, or a pipeline ends in one.
        ValueError: a step of a pipeline that cannot be written (the message names it), ``hard`` for a model that makes
            no choice, ``n_inputs`` missing for a module or given for another model, a network that torch cannot export
            for any N, class labels that JSON cannot hold, or a file that cannot be written.

    Example:
        >>> import tempfile
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim=-1))
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     export(network, f"{directory}/network.onnx", n_inputs=4, hard=True)
        ...     os.listdir(directory)
        ['network.onnx']
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("export needs onnx and onnxscript: pip install 'rlce[export]'") from error
    dtype = torch.float64 if double else torch.float32
    plan = _plan(model, hard, n_inputs)
    example = {"inputs": torch.zeros(2, plan.n_inputs, dtype=dtype)}
    if plan.mask:
        example["mask"] = torch.ones(2, plan.mask, dtype=torch.bool)
    about = {
        "rlce": __version__,
        "kind": type(model.steps[-1][1] if isinstance(model, Pipeline) else model).__name__,
        "hard": hard,
        "inputs": {name: ["N", *tensor.shape[1:]] for name, tensor in example.items()},
        "outputs": {name: meaning for name, (meaning, _) in plan.answers.items()},
        **plan.about,
    }
    if plan.columns is not None:
        about["inputs"] = meanings(plan.columns)
    checkpoint.check_json("model: its classes", about)
    proto = _to_onnx(_Deployed(plan, dtype).eval(), example, list(plan.answers))
    if plan.columns is not None:
        proto = put_before(proto, plan.columns, double)
    proto.metadata_props.add(key="rlce", value=json.dumps(about, ensure_ascii=False))
    onnx.checker.check_model(proto, full_check=True)
    checkpoint.write_atomically(path, proto.SerializeToString(deterministic=True))


def _to_onnx(graph: nn.Module, example: dict[str, Tensor], answers: list[str]) -> Any:
    """The graph as torch exports it, for any number of rows."""
    refusal = f"model: its network cannot be exported for inputs [N, {example['inputs'].shape[1]}]"
    with _quiet(), torch.no_grad():
        try:
            graph(*example.values())  # an error here is one line; from the exporter it is pages
            program = torch.onnx.export(
                graph,
                tuple(example.values()),
                input_names=list(example),
                output_names=answers,
                dynamic_shapes=({0: torch.export.Dim("N")},) * len(example),
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # a user's network may raise anything
            raise ValueError(f"{refusal}: {str(error.__cause__ or error).strip()}") from error
    assert program is not None
    proto = program.model_proto
    # If the network's code works only for the example's number of rows, the exporter fixes that number silently.
    if any(given.type.tensor_type.shape.dim[0].dim_param != "N" for given in proto.graph.input):
        raise ValueError(f"{refusal} and any N: its code depends on the number of rows")
    # The exporter notes source files and lines of whoever exports.
    graph_parts = (proto.graph.node, proto.graph.initializer, proto.graph.value_info, proto.graph.input)
    for part in (proto.graph, *itertools.chain(*graph_parts, proto.graph.output)):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return proto


def _plan(model: Any, hard: bool, n_inputs: int | None) -> _Plan:
    kind = type(model).__name__
    if isinstance(model, nn.Module):
        if not isinstance(n_inputs, int | np.integer) or n_inputs < 1:
            raise ValueError(f"n_inputs must be the number of a module's inputs, at least 1, got {n_inputs!r}")
        return _of_module(model, hard, int(n_inputs))
    if n_inputs is not None:
        raise ValueError(f"n_inputs is for a torch.nn.Module; a {kind} knows its own, got {n_inputs!r}")
    if isinstance(model, PolicyGradient):
        return _of_policy(model, hard)
    if isinstance(model, Pipeline):
        return _of_pipeline(model, hard)
    if not isinstance(model, Classifier | Regressor):
        expected = "rlce.Classifier, rlce.Regressor, rlce.PolicyGradient, sklearn.pipeline.Pipeline or torch.nn.Module"
        raise TypeError(f"model must be a {expected}, got {kind}")
    check_is_fitted(model)
    answers, about = _of_classifier(model, hard) if isinstance(model, Classifier) else _of_regressor(model, hard)
    names = getattr(model, "feature_names_in_", None)
    about["feature_names"] = None if names is None else names.tolist()
    training = model.fitted_.training
    if training.columns is not None:
        refuse_dates(training.columns)
    before = _scaling(training.scaler)
    return _Plan(training.network, training.scaler.width, answers, about, before=before, columns=training.columns)


def _of_pipeline(pipeline: Pipeline, hard: bool) -> _Plan:
    name, last = pipeline.steps[-1]
    if not isinstance(last, Classifier | Regressor):
        kind = type(last).__name__
        raise TypeError(f"model: a pipeline must end in an rlce.Classifier or rlce.Regressor, got {name!r} ({kind})")
    check_is_fitted(last)
    steps = list(_flat(pipeline.steps[:-1]))
    before = tuple(_transformation(name, step) for name, step in steps)
    plan = _plan(last, hard, None)
    if plan.columns is not None and steps:
        raise ValueError(
            f"model: its step {steps[-1][0]!r} gives a DataFrame with types, which cannot be written as ONNX"
        )
    first = steps[0][1] if steps else last
    names = getattr(first, "feature_names_in_", None)
    about = {**plan.about, "feature_names": None if names is None else names.tolist()}
    n_inputs = first.n_features_in_ if steps else plan.n_inputs
    return plan._replace(n_inputs=n_inputs, before=(*before, *plan.before), about=about)


def _flat(steps: Any) -> Iterator[tuple[str, Any]]:
    """The steps that change something, those of pipelines inside included."""
    for name, step in steps:
        if isinstance(step, Pipeline):
            yield from ((f"{name}__{inner}", part) for inner, part in _flat(step.steps))
        elif step is not None and step != "passthrough":
            yield name, step


def _transformation(name: str, step: Any) -> Callable[[Tensor], Tensor]:
    """What a fitted step does to rows, ``[N, D]`` → ``[N, D']``.

    Raises:
        ValueError: it cannot be written in ONNX. A subclass cannot: it may do anything.
    """
    kind, refusal = type(step), f"model: its step {name!r} ({type(step).__name__}) cannot be written as ONNX"
    if kind is StandardScaler:
        return functools.partial(_affine, shift=step.mean_ if step.with_mean else None, divisor=step.scale_)
    if kind is RobustScaler:
        center, divisor = step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None
        return functools.partial(_affine, shift=center, divisor=divisor)
    if kind in (MinMaxScaler, MaxAbsScaler):
        if kind is MinMaxScaler:
            scaled = functools.partial(_affine, shift=-step.min_ / step.scale_, divisor=1.0 / step.scale_)
            bounds = step.feature_range
        else:
            scaled, bounds = functools.partial(_affine, shift=None, divisor=step.scale_), (-1.0, 1.0)
        return (lambda rows: scaled(rows).clamp(*bounds)) if getattr(step, "clip", False) else scaled
    if kind is PCA:
        whitened = None
        if step.whiten:  # as scikit-learn, which divides by no less than rounding
            whitened = np.maximum(np.sqrt(step.explained_variance_), np.finfo(step.explained_variance_.dtype).eps)
        components = step.components_.T
        return lambda rows: _affine(_affine(rows, step.mean_, None) @ _like(components, rows), None, whitened)
    if kind is SimpleImputer:
        values, missing = step.statistics_, step.missing_values
        if step.add_indicator or not (isinstance(missing, float) and np.isnan(missing)) or values.dtype.kind != "f":
            raise ValueError(f"{refusal}: only with numbers, missing_values=nan and without add_indicator")
        kept = np.flatnonzero(~np.isnan(values)).tolist()  # scikit-learn drops columns that were always missing
        return lambda rows: rows[:, kept].where(~rows[:, kept].isnan(), _like(values[kept], rows))
    can = "StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler, PCA and SimpleImputer"
    raise ValueError(f"{refusal}; the steps that can are {can}")


def _affine(rows: Tensor, shift: ArrayLike | None, divisor: ArrayLike | None) -> Tensor:
    """(x − shift) / divisor; what float32 loses of a large shift is subtracted on its own."""
    if shift is not None:
        whole = torch.from_numpy(np.asarray(shift, dtype=np.float64))
        rows = rows - whole.to(rows) - (whole - whole.to(rows.dtype)).to(rows)
    return rows if divisor is None else rows / _like(divisor, rows)


def _scaling(scaler: Scaler | None) -> tuple[Callable[[Tensor], Tensor], ...]:
    """What the scaling of a model's inputs does to rows, ``[N, D]`` → ``[N, D]``; nothing if it never saw any."""
    if scaler is None or not scaler.count:
        return ()
    if isinstance(scaler, RobustScaling):
        return (functools.partial(_interpolated, table=scaler),)
    bound = math.inf if scaler.clip is None else scaler.clip
    return (lambda rows: (_affine(rows, scaler.mean, None) * _like(scaler.scale, rows)).clamp(-bound, bound),)


def _interpolated(rows: Tensor, table: RobustScaling) -> Tensor:
    """Linear interpolation in the table of each column: from the last knot that is no larger, along its slope."""
    gaps, rises = (np.diff(numbers, append=numbers[:, -1:]) for numbers in (table.knots, table.scores))  # [D, K]
    slopes = np.divide(rises, gaps, out=np.zeros_like(gaps), where=gaps > 0)
    beyond = _affine(rows.unsqueeze(-1), table.knots, None)  # [N, D, K]
    place = ((beyond >= 0).sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    beyond = beyond.gather(-1, place).clamp(min=0).squeeze(-1)  # [N, D]
    flat = place.squeeze(-1) + torch.arange(table.width) * gaps.shape[1]
    value, slope = (_like(numbers.ravel(), rows)[flat] for numbers in (table.scores, slopes))
    return value + beyond * slope


def _like(values: ArrayLike, rows: Tensor) -> Tensor:
    """Constants as a tensor of the rows' type."""
    return torch.from_numpy(np.asarray(values, dtype=np.float64)).to(rows)


def _of_classifier(model: Classifier, hard: bool) -> tuple[_Answers, dict[str, Any]]:
    known, several = model.fitted_.about.answers(model.prior), model.fitted_.about.labels.several
    if not hard:
        meaning = "[N, M], that the label applies" if several else "[N, K], in the order of classes"
        answers: _Answers = {"probabilities": (meaning, known.probabilities)}
    elif several:
        answers = {"labels": ("[N, M], 1 where the label applies", known.choices)}
    else:
        answers = {"label": ("[N], an index of classes", known.choices)}
    return answers, {"classes": model.classes_.tolist()}


def _of_regressor(model: Regressor, hard: bool) -> tuple[_Answers, dict[str, Any]]:
    if hard:
        raise ValueError("hard: a regressor predicts numbers and makes no choice")
    known = model.fitted_.about
    rows = "[N, M" if known.several else "[N"
    answers: _Answers = {"prediction": (f"{rows}], in the targets' unit", known.prediction)}
    about: dict[str, Any] = {}
    if known.conformal is not None:
        coverages, widenings = known.conformal
        about["conformal"] = {"coverages": coverages.tolist(), "widenings": widenings.tolist()}
    if known.head.widest is not None:
        levels = np.array(known.levels)
        about["quantiles"] = levels.tolist()
        of_levels = functools.partial(known.quantiles, levels=levels)
        answers["quantiles"] = f"{rows}, L], at the levels of quantiles", of_levels
    return answers, about


def _of_policy(agent: PolicyGradient, hard: bool) -> _Plan:
    seen, space, head = agent.observation_space, agent.action_space, agent.head

    def action(outputs: Tensor) -> Tensor:
        sent = agent.actions.to_environment(head.mode(outputs))
        return sent if isinstance(head, Gaussian) else sent.long()

    if hard or isinstance(head, Gaussian):
        shape = ["N", *(space.shape or ())]
        answers: _Answers = {"action": (f"{shape}, the most probable, as the environment takes it", action)}
    else:
        assert isinstance(head, ClassHead)
        meaning = "[N, L], of ones" if isinstance(head, Bernoulli) else "[N, ΣK], of each component's classes in turn"
        answers = {"probabilities": (meaning, head.probabilities)}
    about = {"observation_space": spaces.to_json(seen), "action_space": spaces.to_json(space)}
    n_inputs = spaces.flat_width(masks.input_space(seen, space))
    mask = head.n_outputs if masks.in_observation(seen) else 0
    return _Plan(agent.policy, n_inputs, answers, about, mask, _scaling(agent.normalizer))


def _of_module(module: nn.Module, hard: bool, n_inputs: int) -> _Plan:
    before, last = _last_layer(module)
    answers: _Answers
    if not hard:
        names = {nn.Softmax: "probabilities", nn.Sigmoid: "probabilities", nn.LogSoftmax: "log_probabilities"}
        before, answers = module, {names.get(type(last), "outputs"): ("as the module gives it", nn.Identity())}
    elif isinstance(last, nn.Softmax | nn.LogSoftmax):
        dim = -1 if last.dim is None else last.dim
        answers = {"label": ("the argmax of its softmax", functools.partial(torch.argmax, dim=dim))}
    elif isinstance(last, nn.Sigmoid):
        answers = {"labels": ("1 where its sigmoid is above a half", Bernoulli(1).mode)}
    elif isinstance(last, nn.Tanh):
        answers = {"signs": ("the sign of its tanh", lambda outputs: outputs.sign().long())}
    else:
        ends = "Softmax, LogSoftmax, Sigmoid or Tanh"
        raise ValueError(f"hard needs a torch.nn.Sequential whose last layer is {ends}, got {type(last).__name__}")
    return _Plan(before, n_inputs, answers, {})


def _last_layer(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Everything before a module's last layer, and that layer."""
    if isinstance(module, nn.Sequential) and len(module) and type(module).forward is nn.Sequential.forward:
        before, last = _last_layer(module[-1])
        return nn.Sequential(*list(module)[:-1], before), last
    return nn.Identity(), module


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporter's own messages: torchvision is absent, torch uses a deprecated name, two axes are called N."""
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
