"""Small environments whose right answer is known."""
