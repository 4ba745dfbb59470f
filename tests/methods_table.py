"""Write docs/methods.md from the tables that the tests use: ``python -m tests.methods_table``."""

from __future__ import annotations

import math
from pathlib import Path

import scripts  # noqa: F401  (sets the number of threads before NumPy loads)

# isort: split
from tests.expectations import EXPECTATIONS, bias
from tests.rules_table import TABLE, largest_difference

PATH = Path(__file__).parents[1] / "docs" / "methods.md"

HEAD = """# Methods, and what may be claimed

Written by `python -m tests.methods_table` from `tests/rules_table.py` and `tests/expectations.py`; a test fails where
this page says anything else. Every method is the objective

    L(θ) = −(1/Z) Σ_i Σ_k w_ik log p_ik,    p_i = softmax(z_i),    ∂L/∂z_i = (S_i p_i − w_i)/Z,    S_i = Σ_k w_ik

with a rule for the weights w, which carry no gradient. e_y and e_a are one-hot rows of the label and of the action
taken, ρ = π(a|s) now / π(a|s) when a was taken, sg is "no gradient through this".

**Tiers.**

* **A**: the weights do not depend on the parameters, so L is the loss: value, gradient and curvature (for some only
  within a batch or an iteration, as said).
* **B**: the method itself holds a weight constant. The gradient of L is the method's estimator; the value of L is not
  its objective.
* **C**: the gradient at the current parameters only. Weights must be made anew at every step; value, curvature, line
  search and early stopping on L are wrong.

Every row is held as users train it, in float64. A supervised rule is trained by `rlce.Classifier`: one step of plain
gradient descent on a table of logits *is* the gradient, and the difference is the largest absolute one from the
published loss's, over random logits, a single row, a single step, tied classes, p within 1e-13 of 0 and 1 and a masked
class. A policy-gradient method is trained by `rlce.PolicyGradient` for some rounds, on episodes of different lengths
that end in every way. Beside it the published method is trained on the same data, and the difference is the largest of
any parameter afterwards, in units of the learning rate. Both are rounded up to a power of ten. Sources that are numbers
are of arXiv.

**Z.** A row is a row of X: several labels of it, or several components of an action, are summed. So where M labels are
M rows of two classes, `[B, M, 2]`, training has Z = B. `weighted_cross_entropy` divides by default by all the rows that
it is given, B·M, and says an M-th of it; with `normalizer=B` both say the same. All terms of a policy's loss have one
Z; the critic has its own, its rows.

"""

BIAS = """
## What the estimators are on average

On a chain of three states whose every trajectory can be listed, the mean gradient of each estimator over all
trajectories (or all pairs of them), computed by the library, is the mean computed independently from the chain's
tables, to 1e-10. Distance is ‖mean − ∇J‖/‖∇J‖ and cosine that of the angle to ∇J, γ = 1. They are facts about this
chain, not about what methods are worth: a mere scale costs nothing, and most biases buy less variance. π is the policy
that is differentiated; off policy, another one, μ, acted. "Wrong V" is a critic far off everywhere.
`tests/expectations.py` has the numbers.

"""

TAIL = """
## What does not fit

Value clipping, natural-gradient steps, gradients through the action (SAC, DDPG), the cross-entropy method over
*parameters*, hinge losses. A continuous action has −w log π(a|s), but no row of K weights.

To add a rule of your own: [new_rule.md](new_rule.md).
"""


def bound(difference: float) -> str:
    """The next power of ten, at least 1e-16: what stays the same from machine to machine."""
    return f"1e{max(math.ceil(math.log10(difference)), -16) if difference else -16}"


def markdown(*rows: tuple[str, ...]) -> str:
    """A table; the first row is its head."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def page() -> str:
    """The whole page."""
    rules = [
        (
            row.method,
            f"`{row.weights}`",
            f"{row.tier} per {row.unit}" if row.unit else row.tier,
            row.remarks,
            row.source,
            row.reference,
            bound(largest_difference(row)),
        )
        for row in TABLE
    ]
    heading = "method", "weights w_ik", "tier", "Z and remarks", "source", "held against", "difference <="
    means = []
    for expectation in EXPECTATIONS:
        distance, cosine = bias(expectation.estimate())
        verdict = ("0", "1") if expectation.exact else (f"{distance:.3f}", f"{cosine:.4f}")
        means.append((expectation.estimator, *verdict, expectation.independently))
    of_means = "estimator", "distance to ∇J", "cosine", "its mean, independently"
    return HEAD + markdown(heading, *rules) + BIAS + markdown(of_means, *means) + TAIL


if __name__ == "__main__":
    PATH.write_text(page())
    print(f"wrote {PATH}")
