"""Recipes: a task, the settings that are known to work on it, and what was measured."""
