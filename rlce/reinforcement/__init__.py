"""The reinforcement wing: from environments to a trained policy."""
