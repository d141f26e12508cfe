"""Modules: candidate operations, mixed operation, cell, super-net, derived network."""
