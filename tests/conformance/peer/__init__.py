"""Definitions, solved by `rb` and by a real BuildKit, and their results beside one another."""
