"""The loop: steps equal torch.optim's, schedules their closed forms, and NaN is named where it began."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlce import trainer as trainer_module
from rlce.network import MLP
from rlce.optimization import FlatParameters, Optimization, Optimizer
from rlce.trainer import Monitor, Progress, Round, Stopping, Trainer

PLAIN = Optimization("sgd", learning_rate=0.1, momentum=0.0)


def one_weight() -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, 1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def rounds(count: int, size: int = 1, first: int = 1, scalars: Iterable[dict[str, float]] | None = None) -> list[Round]:
    """Rounds of one batch each; ``size`` steps a round."""
    each = scalars or [{}] * count
    return [Round([torch.ones(1, 1)], size * (first + i), s) for i, s in zip(range(count), each, strict=True)]


def slope_one(trainer: Trainer) -> Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]:
    """A loss whose gradient is one whatever the weight is."""
    return lambda batch: (trainer.module(batch).sum(), {})


def learning_rates(trainer: Trainer, feed: list[Round], **kwargs: Any) -> list[float]:
    found: list[float] = []
    trainer.fit(
        feed,
        slope_one(trainer),
        callback=lambda progress: found.append(progress.scalars["train/learning_rate"]),
        **kwargs,
    )
    return found


# ------------------------------------------------------------------------------------------- FlatParameters


def test_parameters_and_gradients_are_views_of_two_tensors() -> None:
    network = MLP(3, 2, (4,), activation="prelu")
    before = [p.detach().clone() for p in network.parameters()]
    flat = FlatParameters(network)
    assert flat.value.shape == flat.gradient.shape == (3 * 4 + 4 + 1 + 4 * 2 + 2,)
    assert torch.equal(flat.value, torch.cat([p.reshape(-1) for p in before]))
    for parameter, value in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
    flat.value.fill_(0.5)
    assert all((p == 0.5).all() for p in network.parameters())
    with torch.no_grad():
        next(network.parameters()).fill_(2.0)
    assert flat.value[:12].tolist() == [2.0] * 12


def test_gradients_accumulate_in_the_flat_tensor() -> None:
    network, x = MLP(3, 2, (4,)), torch.ones(5, 3)
    expected = torch.autograd.grad(network(x).square().sum(), list(network.parameters()))
    flat = FlatParameters(network)
    for times in (1, 2):
        network(x).square().sum().backward()
        torch.testing.assert_close(flat.gradient, times * torch.cat([g.reshape(-1) for g in expected]))
    flat.gradient.zero_()
    assert all((p.grad == 0).all() for p in network.parameters() if p.grad is not None)


def test_a_shared_parameter_counts_once_and_a_frozen_one_not_at_all() -> None:
    first, second, third = (nn.utils.skip_init(nn.Linear, 2, 2, bias=False) for _ in range(3))
    for layer, value in ((first, 1.0), (second, 2.0), (third, 3.0)):
        nn.init.constant_(layer.weight, value)
    second.weight = first.weight
    third.weight.requires_grad_(False)
    flat = FlatParameters(nn.Sequential(first, second, third))
    assert flat.value.tolist() == [1.0] * 4
    flat.value.zero_()
    assert second.weight is first.weight
    assert (first.weight == 0).all()
    assert (third.weight == 3).all()


def test_what_cannot_be_flat_is_refused() -> None:
    with pytest.raises(ValueError, match="network: there is no trainable parameter"):
        FlatParameters(nn.Tanh())
    mixed = nn.ModuleList([MLP(1, 1, ()), MLP(1, 1, ()).double()])
    with pytest.raises(ValueError, match="network: parameters must share one dtype and device.*float32.*float64"):
        FlatParameters(mixed)


# --------------------------------------------------------------------------------------- steps of torch.optim

OPTIMIZERS: dict[str, tuple[Optimization, Callable[[Any], torch.optim.Optimizer]]] = {
    "adam": (Optimization("adam", 0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam with decay": (
        Optimization("adam", 0.01, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    ),
    "adamw": (Optimization("adamw", 0.01), lambda p: torch.optim.AdamW(p, 0.01)),
    "adamw with decay": (
        Optimization("adamw", 0.01, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.3),
    ),
    "sgd": (Optimization("sgd", 0.005, momentum=0.9), lambda p: torch.optim.SGD(p, 0.005, momentum=0.9)),
    "nesterov": (
        Optimization("sgd", 0.005, momentum=0.9, weight_decay=0.1, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.005, momentum=0.9, weight_decay=0.1, nesterov=True),
    ),
    "sgd with decay": (
        Optimization("sgd", 0.05, momentum=0.0, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.1),
    ),
    "adadelta": (Optimization("adadelta", 1.0), lambda p: torch.optim.Adadelta(p, 1.0)),
    "rmsprop": (Optimization("rmsprop", 0.01), lambda p: torch.optim.RMSprop(p, 0.01)),
}


@pytest.mark.parametrize("limit", [None, 0.1, 1e6], ids=["free", "clipped", "never reached"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_torch_optims_on_separate_parameters(name: str, limit: float | None) -> None:
    settings, make = OPTIMIZERS[name]
    ours = MLP(3, 2, (5, 4), activation="prelu").double()
    theirs = copy.deepcopy(ours)
    generator = torch.Generator().manual_seed(0)
    data = [torch.randn(6, 3, dtype=torch.float64, generator=generator) for _ in range(20)]
    trainer = Trainer(ours, Optimization(**{**vars(settings), "max_gradient_norm": limit}))
    trainer.fit([Round(data, 20)], lambda x: (4 * (ours(x) - x[:, :2]).square().mean(), {}))
    optimizer = make(theirs.parameters())
    for x in data:
        optimizer.zero_grad()
        (4 * (theirs(x) - x[:, :2]).square().mean()).backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), limit or math.inf)
        assert norm > 0.1  # the small limit binds
        optimizer.step()
    # PyTorch adds 1e-6 to the norm that it divides by; without clipping the two agree to rounding.
    tolerance = 1e-6 if limit == 0.1 else 1e-12
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_without_the_fused_kernel_the_steps_are_the_same(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Tensor:
        flat = FlatParameters(MLP(3, 2, (5,)).double())
        optimizer = Optimizer(flat, Optimization(name, weight_decay=0.1))
        for step in range(20):
            flat.gradient.copy_(torch.arange(len(flat.gradient)).double().sub(5 + step).sin())
            optimizer.step(0.1 / (1 + step))
        return flat.value

    fused = run()
    monkeypatch.delattr(torch, f"_fused_{name}_")
    torch.testing.assert_close(run(), fused, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adadelta", "rmsprop"])
def test_a_restored_optimiser_goes_on_as_if_nothing_had_happened(name: Any) -> None:
    def made() -> tuple[FlatParameters, Optimizer]:
        flat = FlatParameters(MLP(2, 1, (3,)))
        return flat, Optimizer(flat, Optimization(name))

    def run(flat: FlatParameters, optimizer: Optimizer, steps: range) -> None:
        for step in steps:
            flat.gradient.copy_(torch.arange(len(flat.gradient)).add(step).sin())
            optimizer.step(0.1)

    flat, optimizer = made()
    run(flat, optimizer, range(3))
    resumed, later = made()
    resumed.value.copy_(flat.value)
    later.restore({k: v.clone() for k, v in optimizer.state.items() if isinstance(v, Tensor)})
    run(flat, optimizer, range(3, 6))
    run(resumed, later, range(3, 6))
    assert torch.equal(resumed.value, flat.value)


def with_momentum(settings: Optimization, steps: int, first: int = 0, state: Any = None) -> tuple[list[float], Any]:
    """The paths of a double number w down the slope w of ½w², from ``state`` on; and where it stands."""
    flat = FlatParameters(nn.utils.skip_init(nn.Linear, 1, 1, bias=False).double())
    flat.value.fill_(1.0)
    optimizer = Optimizer(flat, settings)
    if state is not None:
        flat.value.copy_(state["value"])
        optimizer.restore({name: tensor for name, tensor in state.items() if name != "value"})
    path = []
    for _ in range(first, steps):
        flat.gradient.copy_(flat.value)
        optimizer.step(settings.learning_rate)
        path.append(flat.value.item())
    return path, {"value": flat.value.clone()} | {name: tensor.clone() for name, tensor in optimizer.state.items()}


def rising(t: int, largest: float) -> float:
    return min(1 - 2 ** (-1 - math.log2(t // 250 + 1)), largest)


@pytest.mark.parametrize("largest", [0.2, 0.7, 0.99])
def test_momentum_rises_as_published(largest: float) -> None:
    settings = Optimization("sgd", momentum=largest, momentum_schedule="rising")
    for step in range(0, 40_000, 50):
        assert settings.momentum_at(step) == pytest.approx(rising(step, largest), rel=1e-14)
    assert Optimization("sgd", momentum=largest).momentum_at(10) == largest


@pytest.mark.parametrize("schedule", ["constant", "rising"])
def test_classical_momentum_is_its_recursion(schedule: Any) -> None:
    """v ← μ_t v − ε∇f(w), w ← w + v: equations 1 and 2 of Sutskever et al. (2013)."""
    found, _ = with_momentum(Optimization("sgd", 0.01, momentum=0.8, momentum_schedule=schedule), 600)
    w, v = 1.0, 0.0
    for t in range(600):
        v = (rising(t, 0.8) if schedule == "rising" else 0.8) * v - 0.01 * w
        w += v
        assert found[t] == pytest.approx(w, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("schedule", ["constant", "rising"])
def test_nesterovs_momentum_is_its_recursion(schedule: Any) -> None:
    """v ← μv − ε∇f(w + μv), w ← w + v: equations 3 and 4; the optimiser's parameters are w + μv.

    Only where μ changes do two forms differ: torch looks ahead with the step's own μ, not with the next one's. So the
    published w and v are followed up to step 250 and, after that, torch's form.
    """
    found, _ = with_momentum(Optimization("sgd", 0.01, momentum=0.8, momentum_schedule=schedule, nesterov=True), 600)
    w, v, here, sums = 1.0, 0.0, 1.0, 0.0
    for t in range(600):
        mu = rising(t, 0.8) if schedule == "rising" else 0.8
        if t < 250 or schedule == "constant":
            v = mu * v - 0.01 * (w + mu * v)
            w += v
            assert found[t] == pytest.approx(w + mu * v, rel=1e-9, abs=1e-15)
        slope = here
        sums = mu * sums + slope
        here -= 0.01 * (slope + mu * sums)
        assert found[t] == pytest.approx(here, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("nesterov", [False, True])
def test_rising_momentum_goes_on_where_it_was(nesterov: bool) -> None:
    settings = Optimization("sgd", 0.01, momentum=0.99, momentum_schedule="rising", nesterov=nesterov)
    whole, _ = with_momentum(settings, 520)
    _, state = with_momentum(settings, 490)
    rest, _ = with_momentum(settings, 520, first=490, state=state)
    assert rest == whole[490:]
    forgotten, _ = with_momentum(settings, 520, first=490, state={k: v for k, v in state.items() if k != "step"})
    assert forgotten[0] != rest[0]  # the test can tell


def test_the_count_of_gradient_steps_is_part_of_the_trainers_state() -> None:
    settings = Optimization("sgd", 1e-3, momentum=0.99, momentum_schedule="rising")
    feed = rounds(300)
    whole, first, second = (Trainer(one_weight(), settings) for _ in range(3))
    whole.fit(feed, slope_one(whole))
    first.fit(feed[:260], slope_one(first))
    second.load_state_dict(first.state_dict())
    second.fit(feed[260:], slope_one(second))
    assert torch.equal(second.flat.value, whole.flat.value)
    assert whole.state_dict()["optimizer.step"].item() == 300
    assert "optimizer.step" not in Trainer(one_weight(), PLAIN).state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "optimizer must be one of adam, adamw, sgd, adadelta, rmsprop, got 'lion'"),
        ({"schedule": "step"}, "schedule must be one of constant, linear, cosine, plateau, got 'step'"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite, got nan"),
        ({"floor": 1.5}, r"floor must lie in \[0, 1\], got 1.5"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive or None, got 0.0"),
        ({"plateau_patience": 0}, "plateau_patience must be a whole number of at least 1, got 0"),
        ({"plateau_patience": 2.5}, "plateau_patience must be a whole number of at least 1, got 2.5"),
        ({"schedule_timesteps": True}, "schedule_timesteps must be a whole number of at least 1, or None, got True"),
        ({"nesterov": 1}, "nesterov must be True or False, got 1"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0 and finite, or None, got -0.1"),
        ({"momentum_schedule": "falling"}, "momentum_schedule must be one of constant, rising, got 'falling'"),
        ({"momentum_schedule": "rising"}, "momentum_schedule works only with optimizer \"sgd\", got 'adam'"),
        ({"nesterov": True}, "nesterov works only with optimizer \"sgd\", got 'adam'"),
        ({"optimizer": "sgd", "nesterov": True, "momentum": 0.0}, "nesterov needs a positive momentum, got 0.0"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Optimization(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, "patience must be a whole number of at least 1, or None, got 0"),
        ({"patience": True}, "patience must be a whole number of at least 1, or None, got True"),
        ({"target": "x"}, "target must be a number other than NaN, or None, got 'x'"),
        ({"seconds": "x"}, "seconds must be a number other than NaN, or None, got 'x'"),
        ({"tolerance": -0.1}, "tolerance must be at least 0 and finite, got -0.1"),
        ({"tolerance": math.inf}, "tolerance must be at least 0 and finite, got inf"),
        ({"smallest_step": -1e-9}, "smallest_step must be at least 0 and finite, or None, got -1e-09"),
        ({"smallest_step": math.nan}, "smallest_step must be at least 0 and finite, or None, got nan"),
    ],
)
def test_bad_stop_conditions_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stopping(**settings)


# -------------------------------------------------------------------------------------------------- schedules


def cosine(done: float) -> float:
    return 0.2 + 0.8 * (1 + math.cos(math.pi * done)) / 2


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ("linear", [1, 0.8, 0.6, 0.4, 0.2, 0.2]),
        ("cosine", [cosine(0), cosine(0.25), cosine(0.5), cosine(0.75), 0.2, 0.2]),
    ],
)
@pytest.mark.parametrize("by", ["total", "schedule_timesteps"])
def test_schedules_fall_to_their_floor_and_stay(schedule: Any, factors: list[float], by: str) -> None:
    """Each round has the rate of where it begins; the end is given 40 steps ahead."""
    schedule_timesteps = 40 if by == "schedule_timesteps" else None
    settings = Optimization("sgd", 0.5, schedule, floor=0.2, schedule_timesteps=schedule_timesteps)
    found = learning_rates(Trainer(one_weight(), settings), rounds(6, size=10), total=40 if by == "total" else 9999)
    np.testing.assert_allclose(found, 0.5 * np.array(factors), rtol=1e-12)


def test_the_rate_that_is_logged_is_the_rate_of_the_steps() -> None:
    trainer = Trainer(one_weight(), Optimization("sgd", 1.0, "linear", momentum=0.0))
    rates = learning_rates(trainer, rounds(4, size=10), total=40)
    assert trainer.module.weight.item() == pytest.approx(-sum(rates), rel=1e-6)
    assert rates == [1.0, 0.75, 0.5, 0.25]


def test_each_call_has_a_schedule_from_its_start_to_its_end() -> None:
    trainer = Trainer(one_weight(), Optimization("sgd", 1.0, "linear", floor=0.5))
    assert trainer.fraction == 0.0
    assert learning_rates(trainer, rounds(4, size=10), total=40) == [1.0, 0.875, 0.75, 0.625]
    assert trainer.fraction == 1.0
    assert learning_rates(trainer, rounds(3, size=10, first=5), total=60) == [1.0, 0.75, 0.5]


def test_schedule_timesteps_count_over_all_calls() -> None:
    trainer = Trainer(one_weight(), Optimization("sgd", 1.0, "linear", floor=0.5, schedule_timesteps=40))
    assert learning_rates(trainer, rounds(2, size=10), total=20) == [1.0, 0.875]
    assert learning_rates(trainer, rounds(4, size=10, first=3), total=60) == [0.75, 0.625, 0.5, 0.5]


def test_a_schedule_may_be_a_function() -> None:
    """It gets the fraction of training done, which is known for a constant rate as well."""
    asked: list[float] = []

    def schedule(done: float) -> float:
        asked.append(done)
        return 2.0 - done

    trainer = Trainer(one_weight(), Optimization("sgd", 0.5, schedule, momentum=0.0))
    assert learning_rates(trainer, rounds(4, size=10), total=40) == [1.0, 0.875, 0.75, 0.625]
    assert sorted(set(asked)) == [0.0, 0.25, 0.5, 0.75]
    constant, fractions = Trainer(one_weight(), PLAIN), []
    constant.fit(
        rounds(4, size=10), lambda batch: (fractions.append(constant.fraction), slope_one(constant)(batch))[1], total=40
    )
    assert fractions == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("wrong", [-0.1, math.nan, math.inf, "x", None, True])
def test_a_schedule_that_gives_no_factor_is_named_when_it_is_used(wrong: Any) -> None:
    settings = Optimization("sgd", 0.5, lambda done: wrong if done >= 0.5 else 1.0, momentum=0.0)
    trainer = Trainer(one_weight(), settings)
    message = r"schedule must give a finite number of at least 0 at progress 0\.5 .*, got "
    with pytest.raises(ValueError, match=message):
        trainer.fit(rounds(4, size=10), slope_one(trainer), total=40)
    assert trainer.progress.rounds == 2
    with pytest.raises(ValueError, match="schedule must give a finite number of at least 0 at progress 0 "):
        learning_rates(Trainer(one_weight(), Optimization(schedule=lambda done: wrong)), iter([]), total=40)  # no round


def test_epsilon_is_that_of_the_optimiser() -> None:
    """One step of Adam on a gradient g moves by rate × g / (|g| + ε), of RMSprop by rate × g / (√.01 |g| + ε)."""
    for optimizer, expected in (("adam", 0.5 / (1.0 + 0.25)), ("rmsprop", 0.5 / (0.1 + 0.25))):
        trainer = Trainer(one_weight(), Optimization(optimizer, 0.5, epsilon=0.25))  # type: ignore[arg-type]
        trainer.fit(rounds(1), slope_one(trainer))
        assert trainer.module.weight.item() == pytest.approx(-expected, rel=1e-6)
    with pytest.raises(
        ValueError, match='epsilon works only with optimizer "adam", "adamw", "adadelta", "rmsprop", got "sgd"'
    ):
        Optimization("sgd", epsilon=1e-8)
    with pytest.raises(ValueError, match="epsilon must be positive and finite, or None, got 0"):
        Optimization(epsilon=0)


def test_plateau_divides_by_ten_each_time_patience_runs_out() -> None:
    settings = Optimization("sgd", 1.0, "plateau", plateau_patience=2)
    values = [1.0, 1.0, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 1.0]
    feed = rounds(len(values), scalars=[{"score": value} for value in values])
    found = learning_rates(Trainer(one_weight(), settings), feed, monitor=Monitor("score"))
    # After 1, .5 (two without a gain), after 2, 2 and after 2, 2 again; the factor stays when the value rises.
    expected = [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_plateau_where_less_is_better() -> None:
    settings = Optimization("sgd", 1.0, "plateau", plateau_patience=1)
    feed = rounds(4, scalars=[{"loss": value} for value in (3.0, 2.0, 2.0, 2.5)])
    found = learning_rates(Trainer(one_weight(), settings), feed, monitor=Monitor("loss", maximize=False))
    np.testing.assert_allclose(found, [1, 1, 1, 0.1], rtol=1e-12)


# --------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize(
    ("stopping", "maximize", "values", "stops_after"),
    [
        (Stopping(target=5.0), True, [1, 4.9, 5, 6], 3),
        (Stopping(target=5.0), False, [9, 5.1, 5, 4], 3),
        (Stopping(target=99.0), True, [1, 2, 3, 4], 4),
        (Stopping(patience=2), True, [1, 2, 2, 3, 3, 2, 9], 6),
        (Stopping(patience=2), False, [3, 2, 2, 1, 1, 2, 0], 6),
        (Stopping(patience=1), True, [1, 1, 2], 2),
        (Stopping(), True, [1, 1, 1], 3),
        (Stopping(patience=2, tolerance=0.5), False, [9, 8, 7.75, 7.5, 7.25, 1], 4),
        (Stopping(patience=2, tolerance=0.5), True, [1, 1.5, 2.25, 2.5, 2.75, 9], 5),
        (Stopping(patience=2, tolerance=0.5), False, [9, 8, 7, 6, 5, 4], 6),
        (Stopping(patience=2, tolerance=0.5), False, [9, 8.5, 8, 1], 3),
        (Stopping(patience=2), False, [9, 8.9, 8.8, 8.7], 4),
        (Stopping(tolerance=0.5), False, [9, 9, 9, 9], 4),
        (Stopping(patience=2, tolerance=0.5), False, [math.nan, 9, 9, 8.9, 1], 4),
    ],
    ids=[
        *("target", "target, less", "out of reach", "patience", "patience, less", "patience of one", "never"),
        *("tolerance", "tolerance, more", "steeper than it", "no more than it"),
        *("no tolerance", "tolerance alone", "first number"),
    ],
)
def test_stop_conditions(stopping: Stopping, maximize: bool, values: list[float], stops_after: int) -> None:
    trainer = Trainer(one_weight(), PLAIN)
    feed = rounds(len(values), scalars=[{"score": float(value)} for value in values])
    progress = trainer.fit(feed, slope_one(trainer), monitor=Monitor("score", maximize), stopping=stopping)
    assert progress.rounds == stops_after


def test_a_tie_uses_no_patience_while_the_tie_breaker_falls() -> None:
    """Ties at 0.9 with losses 5, 4, 3, 3, 3: two rounds without improvement after the third, whose weight is kept."""
    trainer = Trainer(one_weight(), PLAIN)
    found = iter([(0.8, 9.0), (0.9, 5.0), (0.9, 4.0), (0.9, 3.0), (0.9, 3.0), (0.8, 2.0), (1.0, 1.0)])
    monitor = Monitor("accuracy", evaluate=lambda: dict(zip(("accuracy", "loss"), next(found), strict=True)))
    with_tie_breaker = dataclasses.replace(monitor, tie_breaker="loss")
    progress = trainer.fit(rounds(7), slope_one(trainer), monitor=with_tie_breaker, stopping=Stopping(patience=2))
    assert progress.rounds == 6
    assert trainer.restore_best() == 0.9
    assert trainer.module.weight.item() == pytest.approx(-0.4, rel=1e-6)


def test_a_tolerance_is_for_patience_alone() -> None:
    """The best parameters are of the last and smallest gain, and "plateau" sees no plateau."""
    trainer = Trainer(one_weight(), Optimization("sgd", 0.1, "plateau", momentum=0.0, plateau_patience=1))
    values = iter([9.0, 8.9, 8.8, 8.7])
    monitor = Monitor("eval", maximize=False, evaluate=lambda: {"eval": next(values)})
    progress = trainer.fit(rounds(4), slope_one(trainer), monitor=monitor, stopping=Stopping(patience=2, tolerance=0.5))
    assert (progress.rounds, trainer.plateau_factor) == (3, 1.0)
    assert trainer.restore_best() == 8.8
    assert trainer.module.weight.item() == pytest.approx(-0.3, rel=1e-6)


@pytest.mark.parametrize(("smallest_step", "stops_after"), [(None, 8), (0.0, 8), (0.1, 8), (0.22, 6), (0.3, 5)])
def test_a_step_that_is_too_small_stops(smallest_step: float | None, stops_after: int) -> None:
    """Steps of −0.1 from 0: round i moves by 1/(i−1) of what was there, and the first moves away from nothing."""
    trainer = Trainer(one_weight(), PLAIN)
    progress = trainer.fit(rounds(8), slope_one(trainer), stopping=Stopping(smallest_step=smallest_step))
    assert progress.rounds == stops_after


def test_a_tiny_learning_rate_stops_and_an_empty_round_does_not() -> None:
    def run(learning_rate: float, feed: list[Round]) -> int:
        trainer = Trainer(MLP(1, 1, (4,)), Optimization("sgd", learning_rate))
        return trainer.fit(feed, slope_one(trainer), stopping=Stopping(smallest_step=1e-6)).rounds

    assert run(1e-9, rounds(5)) == 1
    assert run(1e-2, rounds(5)) == 5
    assert run(1e-9, [Round([], 1), Round([], 2), *rounds(5, first=3)]) == 3


def test_seconds_count_from_this_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))  # ten seconds between looks at the clock, three a round
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    trainer = Trainer(one_weight(), PLAIN)
    for call in (1, 2):
        progress = trainer.fit(rounds(10), slope_one(trainer), stopping=Stopping(seconds=65.0))
        assert progress.rounds == 3 * call
        assert progress.seconds == 90.0
        assert progress.scalars["time/gather_seconds"] == progress.scalars["time/learn_seconds"] == 10.0


def test_a_true_answer_of_the_callback_stops() -> None:
    trainer, seen = Trainer(one_weight(), PLAIN), []

    def callback(progress: Progress) -> bool | None:
        seen.append((progress.step, progress.rounds, progress.updates, progress.scalars["own"]))
        return True if progress.step >= 30 else None

    feed = [Round([torch.ones(1, 1)] * 2, 10 * i, {"own": float(i)}) for i in range(1, 9)]
    trainer.fit(feed, slope_one(trainer), callback=callback)
    assert seen == [(10, 1, 2, 1.0), (20, 2, 4, 2.0), (30, 3, 6, 3.0)]


def test_rounds_are_drawn_lazily_and_no_further_than_needed() -> None:
    trainer = Trainer(one_weight(), PLAIN)
    weights: list[float] = []

    def source() -> Iterable[Round]:
        for i in range(1, 100):
            weights.append(trainer.module.weight.item())
            yield Round([torch.ones(1, 1)], i)

    trainer.fit(source(), slope_one(trainer), callback=lambda progress: progress.rounds == 3)
    np.testing.assert_allclose(weights, [0.0, -0.1, -0.2], rtol=1e-6)  # each round sees the last step


# ------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_comes_at_the_first_end_of_a_round_past_each_multiple() -> None:
    trainer = Trainer(one_weight(), PLAIN)
    at: list[int] = []

    def evaluate() -> dict[str, float]:
        at.append(trainer.progress.step)
        return {"eval": 0.0}

    monitor = Monitor("eval", evaluate=evaluate, every=5)
    trainer.fit(rounds(7, size=3), slope_one(trainer), monitor=monitor)  # steps 3, 6, …, 21
    trainer.fit([Round([], 24), Round([], 26), Round([], 47)], slope_one(trainer), monitor=monitor)
    assert at == [6, 12, 15, 21, 26, 47]


@pytest.mark.parametrize(("maximize", "best", "at_round"), [(True, 5.0, 2), (False, 1.0, 3)])
def test_the_best_parameters_are_kept_and_put_back(maximize: bool, best: float, at_round: int) -> None:
    trainer, values = Trainer(one_weight(), PLAIN), iter([3.0, 5.0, 1.0, 5.0, 1.0])
    monitor = Monitor("eval", maximize, evaluate=lambda: {"eval": next(values)})
    trainer.fit(rounds(5), slope_one(trainer), monitor=monitor)
    assert trainer.module.weight.item() == pytest.approx(-0.5, rel=1e-6)
    assert trainer.restore_best() == best
    assert trainer.module.weight.item() == pytest.approx(-0.1 * at_round, rel=1e-6)  # of equals the first
    assert trainer.flat.value.item() == trainer.module.weight.item()  # still one memory
    trainer.fit(rounds(1, first=6), slope_one(trainer))
    assert trainer.best is not None
    assert trainer.best[1]["module.weight"].item() == pytest.approx(-0.1 * at_round, rel=1e-6)


def test_without_evaluation_nothing_is_best() -> None:
    trainer = Trainer(one_weight(), PLAIN)
    trainer.fit(rounds(1, scalars=[{"score": 1.0}]), slope_one(trainer), monitor=Monitor("score"))
    with pytest.raises(ValueError, match="no best parameters: nothing was evaluated"):
        trainer.restore_best()


def test_a_value_that_is_no_number_is_never_the_best() -> None:
    trainer, values = Trainer(one_weight(), PLAIN), iter([math.nan, 5.0, math.nan, 1.0])
    trainer.fit(rounds(4), slope_one(trainer), monitor=Monitor("eval", evaluate=lambda: {"eval": next(values)}))
    assert trainer.restore_best() == 5.0


# ---------------------------------------------------------------------------------------------------- scalars


def test_scalars_are_means_over_the_gradient_steps_of_a_round() -> None:
    trainer = Trainer(one_weight(), PLAIN)
    batches = [torch.full((1, 1), x) for x in (1.0, 2.0, 6.0)]
    feed = [Round(batches, 10, {"given": 7.0}), Round([], 20), Round(batches[:1], 30)]
    logged: list[dict[str, float]] = []
    trainer.fit(
        feed,
        lambda x: (trainer.module(x).sum(), {"own": x.sum()}),
        callback=lambda progress: logged.append(dict(progress.scalars)),
    )
    # The weight is 0, −.1 and −.3 before the three steps: losses 0, −.2 and −1.8.
    first, empty, last = logged
    assert first["train/loss"] == pytest.approx(-2.0 / 3, rel=1e-6)
    assert first["own"] == pytest.approx(3.0)
    assert first["train/gradient_norm"] == pytest.approx(3.0)
    assert first["given"] == 7.0
    timed = {"time/fps", "time/gather_seconds", "time/learn_seconds"}
    assert empty.keys() == {"train/n_updates", "train/learning_rate", *timed}
    assert [each["train/n_updates"] for each in logged] == [3, 3, 4]
    assert last["own"] == 1.0
    assert "given" not in last


def test_a_scalar_that_some_steps_log_is_their_mean_by_rows() -> None:
    trainer = Trainer(one_weight(), PLAIN)
    logged: list[dict[str, float]] = []

    def loss(x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        number = x[0, 0].detach()
        at_times = {} if number == 1.0 else {"late": number, "rows": x[:, 0]}
        return trainer.module(x).mean(), {**at_times, "always": number}

    batches = [torch.full((rows, 1), x) for rows, x in ((5, 1.0), (3, 2.0), (1, 6.0))]
    trainer.fit([Round(batches, 9)], loss, callback=lambda progress: logged.append(dict(progress.scalars)))
    assert logged[0]["always"] == pytest.approx((5 + 3 * 2 + 6) / 9)
    assert logged[0]["late"] == logged[0]["rows"] == pytest.approx((3 * 2 + 6) / 4)


def test_the_gradient_norm_is_logged_before_clipping() -> None:
    trainer = Trainer(one_weight(), Optimization("sgd", 1.0, momentum=0.0, max_gradient_norm=0.5))
    progress = trainer.fit([Round([torch.full((1, 1), 8.0)], 1)], slope_one(trainer))
    assert progress.scalars["train/gradient_norm"] == 8.0
    assert trainer.module.weight.item() == pytest.approx(-0.5, rel=1e-6)


def test_progress_goes_on_over_two_calls() -> None:
    trainer = Trainer(one_weight(), PLAIN)
    first = trainer.fit(rounds(3, size=10), slope_one(trainer), total=30)
    assert (first.step, first.rounds, first.updates) == (30, 3, 3)
    second = trainer.fit(rounds(2, size=10, first=4), slope_one(trainer), total=50)
    assert (second.step, second.rounds, second.updates) == (50, 5, 5)
    assert second.scalars["time/fps"] == pytest.approx(20 / second.seconds)
    assert trainer.module.weight.item() == pytest.approx(-0.5, rel=1e-6)


# ------------------------------------------------------------------------------------------- NaN and infinity


class Pair(NamedTuple):
    inputs: Tensor
    target: Tensor


class Nested(NamedTuple):
    rows: Pair
    normalizer: float


ONE, NAN = torch.ones(2, 1), torch.tensor([[1.0], [math.nan]])


def regress(trainer: Trainer, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    return (trainer.module(x) - y).square().mean(), {}


@pytest.mark.parametrize(
    ("batch", "loss", "message"),
    [
        (Pair(NAN, ONE), lambda t, b: regress(t, *b), "the batch's inputs is not finite"),
        (Pair(ONE, NAN / 0), lambda t, b: regress(t, *b), "the batch's target is not finite"),
        (NAN, lambda t, b: regress(t, b, ONE), "the batch's batch is not finite"),
        ((ONE, NAN), lambda t, b: regress(t, *b), "the batch's .* is not finite"),
        (Nested(Pair(NAN, ONE), 1.0), lambda t, b: regress(t, *b.rows), "the batch's .*inputs is not finite"),
        (ONE, lambda t, b: ((t.module(b) - 2).log().mean(), {}), "the loss is nan from finite data and parameters"),
        (ONE, lambda t, b: (t.module(b).sum() / 0, {}), "the loss is -?(inf|nan) from finite data and parameters"),
        # A constant: the gradient is finite.
        (ONE, lambda t, b: (t.module(b).sum() + math.nan, {}), "the loss is nan from finite data and parameters"),
        (
            ONE,
            lambda t, b: ((0 * t.module.weight).sqrt().sum(), {}),
            "the gradient of weight is not finite although the loss is 0",
        ),
    ],
    ids=["field", "other field", "tensor", "tuple", "nested", "loss", "infinite", "constant", "gradient"],
)
def test_what_is_not_finite_is_named_and_no_step_is_taken(
    batch: Any, loss: Callable[[Trainer, Any], tuple[Tensor, dict[str, Tensor]]], message: str
) -> None:
    trainer = Trainer(one_weight(), Optimization("adam", 0.1))
    trainer.fit([Round([ONE, ONE], 64)], lambda b: regress(trainer, b, ONE))
    weight = trainer.flat.value.clone()
    state = {name: tensor.clone() for name, tensor in trainer.optimizer.state.items()}
    with pytest.raises(FloatingPointError, match=message + ".*at gradient step 3, after 64 steps of data"):
        trainer.fit([Round([batch], 128)], lambda b: loss(trainer, b))
    assert torch.equal(trainer.flat.value, weight)
    assert all(torch.equal(trainer.optimizer.state[name], tensor) for name, tensor in state.items())


def test_a_gradient_whose_norm_overflows_is_told_from_one_that_is_not_finite() -> None:
    network = MLP(1, 1, (2,))
    trainer = Trainer(network, PLAIN)
    before = trainer.flat.value.clone()
    with pytest.raises(FloatingPointError, match="the gradient's norm overflows, at gradient step 1,"):
        trainer.fit([Round([ONE], 1)], lambda b: (1e30 * network(b).sum(), {}))
    assert torch.equal(trainer.flat.value, before)


def test_a_parameter_that_is_not_finite_is_named() -> None:
    network = MLP(1, 1, (2,))
    trainer = Trainer(network, PLAIN)
    with torch.no_grad():
        network.layers[1].bias.fill_(math.inf)
    before = trainer.flat.value.clone()
    with pytest.raises(FloatingPointError, match=r"the parameter layers\.1\.bias is not finite, at gradient step 1,"):
        trainer.fit([Round([Pair(ONE, ONE)], 1)], lambda b: regress(trainer, *b))
    assert torch.equal(trainer.flat.value, before)
