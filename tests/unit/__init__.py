"""Unit and rule tests: no server, no sleep, seconds in all."""
