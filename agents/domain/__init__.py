"""Vocabulary and arithmetic of trading: pure, and below all stages, so that the web may use it."""
