"""The objective: PyTorch's cross-entropy where that exists, the closed-form gradient where it does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from rlce import weighted_cross_entropy
from rlce.objective import cross_entropy, objective

INF, NAN = math.inf, math.nan
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
LEADING = pytest.mark.parametrize("leading", [(), (7,), (5, 3)], ids=["row", "B", "TxN"])
CLASSES = 4


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    return torch.autograd.grad(value, logits)[0]


def random_logits(leading: tuple[int, ...], dtype: torch.dtype, seed: int = 0, classes: int = CLASSES) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*leading, classes, dtype=dtype, generator=generator)).requires_grad_()


def random_labels(leading: tuple[int, ...], classes: int = CLASSES) -> Tensor:
    return torch.randint(classes, leading, generator=torch.Generator().manual_seed(1))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, np.random.Generator]:
    """Logits that want a gradient, signed dense weights, and a generator for whatever else is needed."""
    rows, classes = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.1, 3.0, 30.0]))
    logits = torch.from_numpy(spread * generator.standard_normal((rows, classes))).requires_grad_()
    weights = torch.from_numpy(5 * generator.standard_normal((rows, classes)))
    return logits, weights, generator


# --------------------------------------------------------------------------------- against other formulations


@DTYPES
@LEADING
@pytest.mark.parametrize("dense", [False, True], ids=["index", "probabilities"])
def test_value_and_gradient_equal_pytorchs_cross_entropy(
    dense: bool, leading: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    logits = random_logits(leading, dtype)
    targets = random_logits(leading, dtype, seed=2).detach().softmax(-1) if dense else random_labels(leading)
    value = weighted_cross_entropy(logits, targets)
    flat = (-1, CLASSES) if dense else (-1,)
    expected = F.cross_entropy(logits.reshape(-1, CLASSES), targets.reshape(flat))
    assert value.dtype == dtype
    assert value.shape == ()
    torch.testing.assert_close(value, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient(value, logits), gradient(expected, logits), rtol=tolerance, atol=tolerance)


@DTYPES
@LEADING
def test_gradient_is_that_of_the_policy_gradient_estimator(
    leading: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    logits, actions = random_logits(leading, dtype), random_labels(leading)
    returns = 5 * torch.randn(leading, dtype=dtype, generator=torch.Generator().manual_seed(3))
    policy = torch.distributions.Categorical(logits=logits)
    expected = -(policy.log_prob(actions) * returns).mean()
    value = weighted_cross_entropy(logits, actions, returns)
    torch.testing.assert_close(value, expected, rtol=10 * tolerance, atol=10 * tolerance)
    torch.testing.assert_close(
        gradient(value, logits), gradient(expected, logits), rtol=10 * tolerance, atol=10 * tolerance
    )


@settings(deadline=None, max_examples=100)
@given(problems(), st.sampled_from([None, 0.5, 7.0]))
def test_gradient_is_the_closed_form(
    problem: tuple[Tensor, Tensor, np.random.Generator], normalizer: float | None
) -> None:
    logits, weights, _ = problem
    z, w = logits.detach().numpy(), weights.numpy()
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    expected = (w.sum(axis=1, keepdims=True) * p - w) / (normalizer or len(z))
    found = gradient(weighted_cross_entropy(logits, weights, normalizer=normalizer), logits)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@settings(deadline=None, max_examples=50)
@given(problems())
def test_a_multiple_of_p_in_the_weights_leaves_the_gradient(
    problem: tuple[Tensor, Tensor, np.random.Generator],
) -> None:
    logits, weights, generator = problem
    baseline = torch.from_numpy(5 * generator.standard_normal((len(logits), 1)))
    shifted = weights + baseline * logits.detach().softmax(dim=-1)
    torch.testing.assert_close(
        gradient(weighted_cross_entropy(logits, shifted), logits),
        gradient(weighted_cross_entropy(logits, weights), logits),
        rtol=0,
        atol=1e-10,
    )


@settings(deadline=None, max_examples=50)
@given(problems())
def test_row_weights_on_labels_are_dense_weights_on_one_hot(
    problem: tuple[Tensor, Tensor, np.random.Generator],
) -> None:
    logits, _, generator = problem
    rows, classes = logits.shape
    labels = torch.from_numpy(generator.integers(classes, size=rows))
    weights = torch.from_numpy(5 * generator.standard_normal(rows))
    by_index = weighted_cross_entropy(logits, labels, weights)
    dense = weighted_cross_entropy(logits, weights[:, None] * F.one_hot(labels, classes))
    both = weighted_cross_entropy(logits, F.one_hot(labels, classes).double(), weights)
    expected = gradient(by_index, logits)
    for other in (dense, both):
        torch.testing.assert_close(other, by_index, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(other, logits), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_any_integer_dtype_serves_as_class_index(dtype: torch.dtype) -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    value = weighted_cross_entropy(logits, torch.tensor([0, 1], dtype=dtype))
    assert value.item() == pytest.approx(0.5 * (math.log(4) + math.log(4 / 3)), abs=1e-6)


def test_targets_and_weights_of_another_precision_take_the_logits_dtype() -> None:
    logits = random_logits((3,), torch.float32)
    targets = torch.eye(CLASSES, dtype=torch.float64)[:3]
    for weights in (torch.tensor([1, -2, 3]), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)):
        value = weighted_cross_entropy(logits, targets, weights)
        assert value.dtype == torch.float32
        expected = -(logits.log_softmax(-1).diagonal() * weights).sum() / 3
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)


# --------------------------------------------------------------------------------------------- masked classes


@pytest.mark.parametrize("dense", [False, True], ids=["index", "dense"])
@pytest.mark.parametrize("masked", [[0], [3], [0, 2]], ids=str)
def test_a_masked_class_is_as_good_as_absent(masked: list[int], dense: bool) -> None:
    kept = [k for k in range(CLASSES) if k not in masked]
    small = random_logits((6,), torch.float64, classes=len(kept))
    logits = torch.full((6, CLASSES), -INF, dtype=torch.float64)
    logits[:, kept] = small.detach()
    logits.requires_grad_()
    labels = random_labels((6,), classes=len(kept))
    if dense:
        small_targets = torch.randn(6, len(kept), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        targets = torch.zeros(6, CLASSES, dtype=torch.float64)
        targets[:, kept] = small_targets
    else:
        small_targets, targets = labels, torch.tensor(kept)[labels]
    value, expected = weighted_cross_entropy(logits, targets), weighted_cross_entropy(small, small_targets)
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=1e-14)
    found = gradient(value, logits)
    torch.testing.assert_close(found[:, kept], gradient(expected, small), rtol=1e-14, atol=1e-14)
    assert (found[:, masked] == 0).all()


@pytest.mark.parametrize("dense", [False, True], ids=["index", "dense"])
def test_a_row_of_weight_zero_may_have_a_masked_label(dense: bool) -> None:
    logits = torch.tensor([[-INF, 1.0, 2.0], [0.0, 1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    # In the dense case the masked row has weights of both signs: −inf + inf would be NaN.
    targets = torch.tensor([[2.0, -1.0, 1.0], [0.0, 1.0, 0.0]]) if dense else torch.tensor([0, 1])
    value = weighted_cross_entropy(logits, targets, torch.tensor([0.0, 3.0]))
    second = logits.detach()[1].requires_grad_()
    alone = weighted_cross_entropy(second, torch.tensor(1), torch.tensor(3.0), normalizer=2)
    assert value.item() == pytest.approx(alone.item(), rel=1e-14)
    found = gradient(value, logits)
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1], gradient(alone, second), rtol=1e-14, atol=1e-14)


def test_where_pytorch_gives_nan_the_value_and_gradient_are_finite() -> None:
    logits = torch.tensor([[-INF, 0.0, 1.0]], requires_grad=True)
    soft = torch.tensor([[0.0, 0.5, 0.5]])
    assert F.cross_entropy(logits, soft).isnan()  # the corner is real
    value = weighted_cross_entropy(logits, soft)
    assert value.item() == pytest.approx(math.log(1 + math.e) - 0.5, abs=1e-6)
    assert gradient(value, logits).isfinite().all()

    logits = torch.zeros(2, 3, requires_grad=True)
    assert F.cross_entropy(logits, torch.tensor([-100, -100])).isnan()  # all ignored
    value = weighted_cross_entropy(logits, torch.tensor([0, 1]), torch.zeros(2))
    assert value.item() == 0.0
    assert (gradient(value, logits) == 0).all()


@DTYPES
def test_huge_logits_are_finite_and_exact(dtype: torch.dtype, tolerance: float) -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4]], dtype=dtype, requires_grad=True)
    for label, expected, slope in ((0, 0.0, [0, 0, 0]), (1, 1e4, [1, -1, 0]), (2, 2e4, [1, 0, -1])):
        value = weighted_cross_entropy(logits, torch.tensor([label]))
        assert value.item() == pytest.approx(expected, rel=tolerance, abs=0)
        assert gradient(value, logits).tolist() == [slope]


# --------------------------------------------------------------------------------------------- the normaliser


@LEADING
def test_the_default_normaliser_counts_rows_of_weight_zero(leading: tuple[int, ...]) -> None:
    logits, labels = random_logits(leading, torch.float64), random_labels(leading)
    weights = torch.ones(leading, dtype=torch.float64)
    weights.view(-1)[1:] = 0.0
    first = -logits.reshape(-1, CLASSES)[0].log_softmax(-1)[labels.reshape(-1)[0]]
    value = weighted_cross_entropy(logits, labels, weights)
    assert value.item() == pytest.approx(first.item() / math.prod(leading), rel=1e-14)


@pytest.mark.parametrize("normalizer", [2, 0.25, torch.tensor(8.0), torch.tensor(3)], ids=str)
def test_a_given_normaliser_is_used_as_it_is(normalizer: float | Tensor) -> None:
    logits, labels = random_logits((5,), torch.float64), random_labels((5,))
    weights = torch.tensor([1.0, -2.0, 0.0, 3.0, 0.5])
    total = -(logits.log_softmax(-1)[torch.arange(5), labels] * weights).sum()
    value = weighted_cross_entropy(logits, labels, weights, normalizer=normalizer)
    assert value.item() == pytest.approx(total.item() / float(normalizer), rel=1e-14)
    torch.testing.assert_close(gradient(value, logits), gradient(total, logits) / float(normalizer))


def test_signed_weights_that_sum_to_zero() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    value = weighted_cross_entropy(logits, torch.tensor([0, 0]), torch.tensor([1.0, -1.0]))
    assert value.item() == pytest.approx((math.log(4) - math.log(2)) / 2, rel=1e-14)
    # Rows of (S p − w)/Z: (1·[¼, ¾] − [1, 0])/2 and (−1·[½, ½] + [1, 0])/2.
    np.testing.assert_allclose(gradient(value, logits), [[-0.375, 0.375], [0.25, -0.25]], rtol=0, atol=1e-15)


def test_no_gradient_flows_into_targets_or_weights() -> None:
    logits = random_logits((3,), torch.float64)
    generator = torch.Generator().manual_seed(0)
    targets, weights = (torch.rand(*shape, dtype=torch.float64, generator=generator) for shape in ((3, CLASSES), (3,)))
    for tensor in (targets, weights):
        tensor.requires_grad_()
    weighted_cross_entropy(logits, targets, weights).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).all()
    assert targets.grad is None
    assert weights.grad is None


# -------------------------------------------------------------------------------------------------- bad input

GOOD: dict[str, Any] = {
    "logits": torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
    "targets": torch.tensor([0, 2]),
    "weights": torch.tensor([1.0, -1.0]),
}
DENSE = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
MASKED = torch.tensor([[0.0, 1.0, -INF], [3.0, 4.0, -INF]])


def with_entry(tensor: Tensor, index: tuple[int, ...], value: float) -> Tensor:
    changed = tensor.clone()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"targets": torch.tensor([0, 3])}, ValueError, r"targets must be classes 0\.\.2, got 3 at index \[1\]"),
        ({"targets": torch.tensor([-1, 0])}, ValueError, r"targets must be classes 0\.\.2, got -1 at index \[0\]"),
        ({"targets": torch.tensor([-100, 0])}, ValueError, "targets must be classes"),
        ({"logits": with_entry(GOOD["logits"], (1, 0), NAN)}, ValueError, r"logits must be finite.*nan.*\[1, 0\]"),
        ({"logits": with_entry(GOOD["logits"], (0, 2), INF)}, ValueError, r"logits must be finite.*inf.*\[0, 2\]"),
        ({"targets": with_entry(DENSE, (1, 1), NAN)}, ValueError, r"targets must be finite.*\[1, 1\]"),
        ({"targets": with_entry(DENSE, (0, 1), -INF)}, ValueError, r"targets must be finite.*\[0, 1\]"),
        ({"weights": torch.tensor([1.0, NAN])}, ValueError, r"weights must be finite.*\[1\]"),
        ({"weights": torch.tensor([INF, 0.0])}, ValueError, r"weights must be finite.*\[0\]"),
        # Finite in float64, infinite in the logits' float32.
        ({"weights": torch.tensor([1e300, 0.0], dtype=torch.float64)}, ValueError, "weights must be finite"),
        ({"targets": DENSE.double() * 1e300}, ValueError, "targets must be finite"),
        ({"targets": torch.tensor([0, 1, 2])}, ValueError, r"targets must have.*\[2\], got \[3\]"),
        ({"targets": torch.tensor(0)}, ValueError, r"targets must have.*\[2\], got \[\]"),
        ({"targets": DENSE.long()}, ValueError, r"targets must have.*\[2\], got \[2, 3\]"),
        ({"targets": DENSE[:1]}, ValueError, r"targets must have.*\[2, 3\], got \[1, 3\]"),
        ({"targets": DENSE[:, :2]}, ValueError, r"targets must have.*\[2, 3\], got \[2, 2\]"),
        ({"targets": torch.tensor([0.0, 2.0])}, ValueError, r"targets must have.*\[2, 3\], got \[2\]"),
        ({"weights": torch.ones(2, 1)}, ValueError, r"weights must.*\[2\], got \[2, 1\]"),
        ({"weights": torch.ones(3)}, ValueError, r"weights must.*\[2\], got \[3\]"),
        ({"weights": torch.tensor(1.0)}, ValueError, r"weights must.*\[2\], got \[\]"),
        ({"logits": torch.tensor(1.0)}, ValueError, r"logits must have shape \[\.\.\., K\]"),
        ({"targets": torch.tensor([True, False])}, TypeError, "targets must be.*bool"),
        ({"targets": DENSE.bool()}, TypeError, "targets must be.*bool"),
        ({"targets": DENSE.to(torch.complex64)}, TypeError, "targets must be.*complex64"),
        ({"logits": GOOD["logits"].long()}, TypeError, "logits must be floating point, got torch.int64"),
        ({"weights": torch.ones(2, dtype=torch.complex64)}, TypeError, "weights must be real.*complex64"),
        ({"logits": [[0.0, 1.0]]}, TypeError, "logits must be a torch.Tensor, got list"),
        ({"targets": np.array([0, 1])}, TypeError, "targets must be a torch.Tensor, got ndarray"),
        ({"targets": None}, TypeError, "targets must be a torch.Tensor, got NoneType"),
        ({"weights": 2.0}, TypeError, "weights must be a torch.Tensor, got float"),
        ({"logits": torch.zeros(0, 3), "targets": torch.zeros(0).long(), "weights": None}, ValueError, "empty"),
        ({"logits": torch.zeros(2, 0, 3), "targets": torch.zeros(2, 0, 3), "weights": None}, ValueError, "empty"),
        ({"logits": torch.zeros(2, 0)}, ValueError, r"logits must have.*K >= 1, got \[2, 0\]"),
        ({"logits": MASKED}, ValueError, r"masked class.*non-zero weight in the row at index \[1\]"),
        ({"logits": MASKED, "weights": None}, ValueError, r"masked class.*non-zero weight in the row at index \[1\]"),
        ({"logits": MASKED, "targets": DENSE}, ValueError, r"masked class.*non-zero weight in the row at index \[1\]"),
        ({"logits": MASKED, "targets": -DENSE, "weights": None}, ValueError, "masked class.*non-zero weight"),
        ({"logits": torch.full((2, 3), -INF)}, ValueError, r"every class is masked.*logits at index \[0\]"),
        (
            {"logits": torch.tensor([[0.0, 1.0, 2.0], [-INF, -INF, -INF]]), "weights": torch.tensor([1.0, 0.0])},
            ValueError,
            r"every class is masked.*logits at index \[1\]",
        ),
        ({"normalizer": 0}, ValueError, "normalizer must be positive and finite.*, got 0"),
        ({"normalizer": -2.0}, ValueError, "normalizer must be positive and finite.*, got -2"),
        ({"normalizer": NAN}, ValueError, "normalizer must be positive and finite.*, got nan"),
        ({"normalizer": INF}, ValueError, "normalizer must be positive and finite.*, got inf"),
        ({"normalizer": torch.tensor(0.0)}, ValueError, "normalizer must be positive and finite.*, got 0"),
        ({"normalizer": torch.ones(1)}, ValueError, r"normalizer must be.*0-d tensor, got tensor\(\[1.\]\)"),
    ],
)
def test_bad_input_is_named(bad: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        weighted_cross_entropy(**{**GOOD, **bad})


# ------------------------------------------------------------------------------------------ unchecked kernels


def test_kernel_cost_is_one_number_a_row() -> None:
    logits = random_logits((5, 3), torch.float64)
    labels = random_labels((5, 3))
    expected = F.cross_entropy(logits.reshape(-1, CLASSES), labels.reshape(-1), reduction="none").reshape(5, 3)
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    torch.testing.assert_close(cross_entropy(logits, F.one_hot(labels, CLASSES).double()), expected)


def as_they_are(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs that are costs already."""
    return outputs


def test_the_objective_serves_any_cost_and_drops_infinite_ones_of_weight_zero() -> None:
    cost, nothing = torch.tensor([[INF, 1.0], [2.0, NAN]], requires_grad=True), torch.zeros(())
    value = objective(as_they_are, cost, nothing, torch.tensor([[0.0, 3.0], [-1.0, 0.0]]))
    assert value.item() == 0.25
    assert gradient(value, cost).tolist() == [[0.0, 0.75], [-0.25, 0.0]]
    assert objective(as_they_are, torch.tensor([1.0, 2.0, 6.0]), nothing).item() == 3.0
    assert objective(as_they_are, torch.tensor([1.0, 2.0, 6.0]), nothing, normalizer=2.0).item() == 4.5


def test_the_public_objective_is_the_one_that_trains() -> None:
    logits, labels = random_logits((5, 3), torch.float64), torch.arange(15).reshape(5, 3) % CLASSES
    weights = torch.linspace(-1.0, 2.0, 15, dtype=torch.float64).reshape(5, 3)
    assert weighted_cross_entropy(logits, labels, weights) == objective(cross_entropy, logits, labels, weights)
    found = weighted_cross_entropy(logits, labels, weights, normalizer=5)
    assert found == objective(cross_entropy, logits, labels, weights, 5)
