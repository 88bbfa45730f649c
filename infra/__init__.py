"""What runs it: settings, the command line, and what is generated from the catalogue.

The only package that reads the environment and may import everything; nobody but the tests
imports it.
"""
