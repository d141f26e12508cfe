"""Drawings and reports of what a search found."""
