"""`python -m pcdarts_fast` is `pcdarts`."""

import sys

from .cli import main

sys.exit(main())
