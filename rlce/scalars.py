"""What TensorBoard shows of a run: every scalar with its formula, the histograms, the images, and what opens first.

This is data. `rlce.tracking` writes it; `docs/scalars.md` is generated from it.
"""

from __future__ import annotations

from typing import NamedTuple

from rlce.tracking import Band, Layout


class Shown(NamedTuple):
    """A line of `docs/scalars.md`.

    Attributes:
        name: the tag in TensorBoard; a word in capitals stands for a part that depends on the run.
        halves: "P" for `PolicyGradient`, "C" for `Classifier` and "R" for `Regressor`, as far as they log it.
        meaning: the formula or definition, with its unit.

    Example:
        >>> SCALARS[0].name, SCALARS[0].halves
        ('rollout/ep_rew_mean', 'P')
    """

    name: str
    halves: str
    meaning: str


SCALARS = (
    Shown("rollout/ep_rew_mean", "P", "mean undiscounted, unscaled return of the last 100 finished training episodes"),
    Shown("rollout/ep_len_mean", "P", "mean length of the same episodes, in steps"),
    Shown(
        "rollout/success_rate",
        "P",
        "share of successes in the last 100 finished training episodes whose last info has `is_success`",
    ),
    Shown("eval/mean_reward", "P", "mean return of the evaluation episodes, greedy or sampled as configured"),
    Shown("eval/std_reward", "P", "their standard deviation"),
    Shown("eval/min_reward", "P", "the lowest of their returns"),
    Shown("eval/max_reward", "P", "the highest of their returns"),
    Shown("eval/mean_ep_length", "P", "their mean length, in steps"),
    Shown("eval/success_rate", "P", "share of successes among those whose last info has `is_success`"),
    Shown(
        "train/loss",
        "PCR",
        "the loss: −(1/Z) Σ w log p, for a regression the mean cost in standardised units; for a policy the policy's "
        "objective with bonus and penalty, plus `value_weight` times the critic's (in the critic's own passes only the "
        "latter). With signed weights, an entropy bonus or a penalty its value is no measure of progress",
    ),
    Shown("train/policy_loss", "P", "−(1/Z) Σ w log π(a\\|s), mean over the policy's gradient steps of the round"),
    Shown("train/value_loss", "P", "mean ½(V − target)², before `value_weight`"),
    Shown("train/entropy", "P", "mean entropy of the policy, nats"),
    Shown("train/approx_kl", "P", "mean of ρ − 1 − log ρ over the round, ρ = π now / π when the action was taken"),
    Shown("train/reference_kl", "P", "mean KL(π‖reference), nats, for methods with a `kl_weight`"),
    Shown(
        "train/clip_fraction",
        "P",
        "share of rows whose weight the rule set to zero although the advantage was not zero",
    ),
    Shown(
        "train/explained_variance", "P", "1 − Var(target − V) / Var(target) over the round, before its gradient steps"
    ),
    Shown(
        "train/value_mean",
        "P",
        "mean V(s) over the round, before its gradient steps, in the critic's unit: that of the rewards after "
        "`scale_rewards`",
    ),
    Shown("train/return_mean", "P", "mean target of the critic over the round, in the same unit"),
    Shown("train/advantage_mean", "P", "mean advantage over the round, before it is standardised"),
    Shown(
        "train/action_std",
        "P",
        "mean standard deviation of the actions of a Gaussian policy while it gathered the round, before they are "
        "clipped or rescaled",
    ),
    Shown("train/accuracy", "C", "share of training rows classified correctly during the epoch"),
    Shown(
        "train/cross_entropy",
        "C",
        "mean weighted cross-entropy of the targets, nats; logged if a rule depends on the outputs, because "
        "`train/loss` then differs from it",
    ),
    Shown("train/n_updates", "PCR", "the number of gradient steps so far, those of the critic alone among them"),
    Shown("train/learning_rate", "PCR", "the optimiser's step size in the round (or epoch)"),
    Shown("train/gradient_norm", "PCR", "mean Euclidean norm of the gradient before clipping, over all gradient steps"),
    Shown(
        "val/loss",
        "CR",
        "mean cross-entropy on the held-out rows, nats; for `Regressor` the mean cost in standardised units",
    ),
    Shown("val/accuracy", "C", "share of held-out rows classified correctly (all labels of a row), 1 − zero-one error"),
    Shown(
        "val/f1/CLASS",
        "C",
        "2 TP / (2 TP + FP + FN) of a class on the held-out rows, by what was kept; once, at the end; the 20 classes "
        "with most rows",
    ),
    Shown(
        "val/coverage", "R", "share of held-out targets inside the 90 % interval, by what was kept; once, at the end"
    ),
    Shown("time/fps", "PCR", "environment steps (or samples) a second since `learn` (or `fit`) began"),
    Shown(
        "time/gather_seconds",
        "PCR",
        "seconds of the round in which data was gathered: acting, environments, credit; about 0 for rows in memory",
    ),
    Shown("time/learn_seconds", "PCR", "seconds of the round in gradient steps, drawing of minibatches included"),
    Shown("time/evaluate_seconds", "PCR", "seconds of the evaluation after the round, in rounds that end with one"),
    Shown("end/greedy_return", "P", "mean return of the greedy episodes after training (`scripts.train`)"),
    Shown("end/sampled_return", "P", "mean return of the sampled episodes after training (`scripts.train`)"),
    Shown("end/test_accuracy", "C", "accuracy on the test rows (`scripts.train_classifier`, as all that follow)"),
    Shown("end/test_log_loss", "C", "mean −log p of the true class on the test rows, nats"),
    Shown("end/test_macro_f1", "C", "mean of the classes' F1 on the test rows"),
    Shown("end/test_mae", "R", "mean absolute error on the test rows, in the target's unit"),
    Shown("end/test_rmse", "R", "root of the mean squared error on the test rows, in the target's unit"),
    Shown("end/test_r2", "R", "1 − Σ(y − ŷ)² / Σ(y − ȳ)² on the test rows"),
    Shown("end/test_coverage", "R", "share of test targets inside the 90 % interval"),
)

HISTOGRAMS = (
    Shown("policy/weights", "P", "w of every row of the round, by the method's rule under the policy after the round"),
    Shown("policy/advantages", "P", "advantages of the round as the rule gets them, after standardisation"),
    Shown("policy/values", "P", "V(s) after the round, in the critic's unit"),
    Shown("policy/returns", "P", "the critic's targets, in the same unit"),
    Shown("policy/entropy", "P", "entropy of π(·\\|s) after the round, one number a row, nats"),
    Shown("policy/actions", "P", "the actions taken: classes, or numbers before they are clipped or rescaled"),
    Shown("policy/actions/COMPONENT", "P", "the same by component, if an action has several (the first 8)"),
    Shown(
        "train/row_weights",
        "C",
        "S = Σ_k w_k of training rows (of about 1,000): sample and class weights times what the rules make of them",
    ),
    Shown("val/confidence", "C", "largest probability of each held-out row"),
    Shown("val/residuals", "R", "true minus predicted on the held-out rows, in the target's unit"),
)

IMAGES = (
    Shown("policy/values_and_returns", "P", "V(s) after the round against the critic's target, at most 500 rows"),
    Shown("val/confusion", "C", "counts of true and predicted classes on the held-out rows, the 20 with most rows"),
    Shown("val/reliability", "C", "share of right predictions against their probability"),
    Shown("val/predictions", "R", "predicted against true, with the 90 % interval if there is one, at most 500 rows"),
    Shown("val/residuals_plot", "R", "residuals against predictions, at most 500 rows"),
)


# Charts of one title are one chart, also of different runs.
_TIME = {
    "seconds of a round, or epoch": ("time/gather_seconds", "time/learn_seconds", "time/evaluate_seconds"),
    "steps, or samples, a second": ("time/fps",),
}

POLICY_LAYOUT: Layout = {
    "Is it learning?": {
        "return": ("rollout/ep_rew_mean", "eval/mean_reward"),
        "evaluation: lowest, mean, highest return": Band("eval/mean_reward", "eval/min_reward", "eval/max_reward"),
        "length of an episode": ("rollout/ep_len_mean", "eval/mean_ep_length"),
        "success rate": ("rollout/success_rate", "eval/success_rate"),
    },
    "Is the policy healthy?": {
        "entropy": ("train/entropy",),
        "distance moved in a round (KL)": ("train/approx_kl", "train/reference_kl"),
        "share of clipped rows": ("train/clip_fraction",),
        "explained variance of the critic": ("train/explained_variance",),
        "values and returns": ("train/value_mean", "train/return_mean"),
    },
    "Where does the time go?": _TIME,
}

ROWS_LAYOUT: Layout = {
    "Does it generalise?": {
        "loss": ("val/loss", "train/loss", "train/cross_entropy"),
        "accuracy": ("val/accuracy", "train/accuracy"),
    },
    "Is training healthy?": {
        "gradient norm": ("train/gradient_norm",),
        "learning rate": ("train/learning_rate",),
    },
    "Where does the time go?": _TIME,
}
