"""Scores: pure functions of references and hypotheses."""
