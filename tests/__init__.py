"""Proof that Millrace does what it says, in folders by kind of test."""
