"""Rules: pure functions that build the targets and weights of the objective.

The names of a rule's parameters state what it needs, and `binding` passes exactly that. The same mechanism serves both
halves: a rule of supervised learning may name ``labels``, ``classes``, ``logits``, ``counts`` ..., one of reinforcement
learning ``advantage``, ``log_prob``, ``behaviour_log_prob``, ``episode`` and ``value``.

* `targets`: labels → target weights.
* `weights`: advantages → weights of the actions taken; and weights for all classes of a row, such as an entropy bonus.
* `returns`: rewards → returns and advantages, on arrays ``[T, N]``.
"""
