"""The one exception that means: what the user gave cannot be used, and here is what to do."""

from __future__ import annotations


class UserError(ValueError):
    """One sentence for a person: what, where, got, wanted, what to do.

    The command line prints it and exits with code 2; in Python it is a `ValueError`.
    """
