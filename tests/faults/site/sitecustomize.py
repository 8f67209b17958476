"""Every Python process of a study under test starts here, since this folder is first in its PYTHONPATH."""

import os
import sys

if os.environ.get("FAULTS"):
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import injection

    injection.install()
