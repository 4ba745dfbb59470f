"""Rules: pure functions that build targets and weights, and what gives a rule what it names."""
