"""``millrace`` in a process that ends with the one that started it, whatever that one died of.

The other holds the writing end of this one's standard input, and the kernel closes it for a process
that is killed. Without this a backtest would go on for nobody, on a core that a restart wants.
"""

from __future__ import annotations

import os
import sys
import threading

from infra.cli import main

_ORPHANED = 3


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, name="leash", daemon=True).start()
    main()
