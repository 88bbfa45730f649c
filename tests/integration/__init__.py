"""Tests with real processes, files and servers."""
