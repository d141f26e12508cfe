"""What every test starts from."""

from __future__ import annotations

import os

# Before torch loads: idle threads wait instead of spinning, which on a busy machine costs seconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
