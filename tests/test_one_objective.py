"""The thesis is the code path: training descends what the objective returned, and nothing else sums a loss."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from sklearn.datasets import make_blobs
from torch import Tensor

import rlce
from envs.identity import Identity, IdentityBox, IdentityMultiBinary, IdentityMultiDiscrete, MaskedIdentity
from rlce import Classifier, PolicyGradient, Regressor, methods, targets
from rlce.reinforcement import loss as policy_loss
from rlce.supervised import loss as supervised_loss

HEADS: dict[str, Callable[[], gymnasium.Env[Any, Any]]] = {
    "Discrete": Identity,
    "masked": MaskedIdentity,
    "MultiDiscrete": IdentityMultiDiscrete,
    "MultiBinary": IdentityMultiBinary,
    "Box": IdentityBox,
}


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Tensor], list[Tensor]]:
    """What the two wings got from the objective with a graph, and what ``backward`` was called on."""
    returned: list[Tensor] = []
    descended: list[Tensor] = []
    objective, backward = policy_loss.objective, Tensor.backward

    def spied(*arguments: Any, **named: Any) -> Tensor:
        value = objective(*arguments, **named)
        if value.requires_grad:
            returned.append(value)
        return value

    def spied_backward(self: Tensor, *arguments: Any, **named: Any) -> None:
        descended.append(self)
        backward(self, *arguments, **named)

    for wing in (policy_loss, supervised_loss):
        monkeypatch.setattr(wing, "objective", spied)
    monkeypatch.setattr(Tensor, "backward", spied_backward)
    return returned, descended


def check_sums(returned: list[Tensor], descended: list[Tensor], critic: bool, alone: int = 0) -> None:
    """Each descended scalar is one returned by the objective, or the sum of one and a multiple of the next.

    This many, where the critic learns alone, are a multiple of one.
    """
    assert descended
    remaining, multiples = iter(returned), 0
    for total in descended:
        policy = next(remaining)
        if not critic:
            assert total is policy
            continue
        assert total.grad_fn is not None
        if [part for part, _ in total.grad_fn.next_functions if part is not None] == [policy.grad_fn]:
            multiples += 1
            continue
        of_critic = next(remaining)
        (first, _), (second, _) = total.grad_fn.next_functions
        assert first is policy.grad_fn
        assert second is not None
        assert [part for part, _ in second.next_functions if part is not None] == [of_critic.grad_fn]
    assert next(remaining, None) is None
    assert multiples == alone


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", sorted(methods._MAKERS))
def test_an_agent_descends_what_the_objective_returned(
    watched: tuple[list[Tensor], list[Tensor]], name: str, head: str
) -> None:
    for more in ({}, {"entropy_weight": 0.01}, {"kl_weight": 0.1}):
        if not set(more) <= set(methods.named(name).arguments or {}):
            continue
        for recorded in watched:
            recorded.clear()
        short = {"steps": 10} if methods.named(name).value_epochs else {}
        agent = PolicyGradient(HEADS[head], methods.named(name, {**short, **more}), num_envs=4, hidden=(4,))
        agent.learn(40)
        passes = agent.method.value_epochs * agent.trainer.progress.rounds  # a step each: the rounds are short
        check_sums(*watched, critic=agent.method.critic, alone=passes)


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "one class a row": lambda: Classifier(class_weight="balanced"),
    "every kind of rule": lambda: Classifier(
        rule=[targets.smooth, targets.mixup, targets.logit_adjusted, targets.focal, targets.class_balanced]
    ),
    "one-vs-all": lambda: Classifier(rule=targets.two_class_rows),
    "several labels": lambda: Classifier(rule=targets.squared_error),
    **{
        cost: functools.partial(Regressor, cost=cost)
        for cost in ("squared", "absolute", "huber", "quantile", "gaussian")
    },
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_descends_what_the_objective_returned(
    watched: tuple[list[Tensor], list[Tensor]], name: str
) -> None:
    returned, descended = watched
    X, y = make_blobs(70, centers=3, random_state=0)
    y = np.stack([y == 0, y > 0], axis=1).astype(int) if name == "several labels" else y
    one = ESTIMATORS[name]().set_params(hidden=(4,), batch_size=16, epochs=2)
    one.fit(X, y).partial_fit(X, y)
    assert len(descended) == 3 * 5
    assert len(returned) == len(descended)
    assert all(total is value for total, value in zip(descended, returned, strict=True))


# ------------------------------------------------------------------------------------------------- the syntax tree

# What is added up or averaged under one of these names would be a loss.
A_COST = re.compile(r"cost|loss|nll|squared|absolute|huber|pinball|entropy|log_prob|\bkl\b|penalty|bonus")
KERNELS = re.compile(r"binary_cross_entropy|nll_loss|mse_loss|l1_loss|huber_loss|smooth_l1|kl_div|gaussian_nll|BCELoss")
SUMS = {"mean", "sum", "nanmean", "nansum", "einsum", "average", "dot", "logsumexp"}


def summed(tree: ast.AST) -> Iterator[str]:
    """Calls that add up or average something named as a cost, as methods, as functions and as built-ins."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name not in SUMS:
            continue
        what = [function.value] if isinstance(function, ast.Attribute) else []
        within = [part for operand in (*what, *node.args) for part in ast.walk(operand)]
        owners = {part.value for part in within if isinstance(part, ast.Attribute)}  # of `loss.counts`, the counts
        names = [getattr(part, "attr", getattr(part, "id", "")) for part in within if part not in owners]
        if A_COST.search(" ".join(names)):
            yield ast.unparse(node)


def test_no_loss_is_summed_outside_the_objective_and_the_heads() -> None:
    root = Path(rlce.__file__).parent
    found = {}
    for path in root.rglob("*.py"):
        # calibration.py fits a temperature; measuring.py reports the pinball loss of a fitted estimator.
        if path.name in ("objective.py", "heads.py", "calibration.py", "measuring.py"):
            continue
        tree = ast.parse(path.read_text())
        hits = [*summed(tree), *KERNELS.findall(ast.unparse(tree))]
        if hits:
            found[str(path.relative_to(root))] = hits
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "cost.mean()",
        "head.cost(outputs, y).sum()",
        "torch.mean(losses)",
        "sum(costs)",
        "(w * cost).sum() / z",
        "np.average(loss)",
        "torch.stack([one.loss for one in computed]).mean()",
    ],
)
def test_the_reading_of_the_syntax_tree_would_find_one(line: str) -> None:
    assert list(summed(ast.parse(line)))


def test_an_object_that_is_named_as_a_cost_is_not_what_is_summed() -> None:
    assert not list(summed(ast.parse("is_right(loss.class_head, outputs).mean()")))


def test_only_one_module_calls_the_kernels_of_torch() -> None:
    """`F.nll_loss` stands in `cross_entropy`, as one of its two forms."""
    root = Path(rlce.__file__).parent
    users = [path.name for path in root.rglob("*.py") if "nll_loss" in path.read_text()]
    assert users == ["objective.py"]
