"""The command `greenroom`: a name that no project has, which finds out whether one has a `broker` of its own."""

import os
import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command, unless another module is found in place of ours."""
    ours = os.path.join(os.path.dirname(os.path.abspath(__file__)), "broker", "__init__.py")  # noqa: PTH100, PTH118, PTH120
    spec = find_spec("broker")
    found = None if spec is None else spec.origin
    if found is None or os.path.realpath(found) != os.path.realpath(ours):
        sys.exit(
            f"greenroom: the module broker is {found}, which hides Greenroom's {ours}: rename it, or move it off PYTHONPATH"
        )
    from broker.__main__ import main as run  # noqa: PLC0415  # not before it is known to be ours

    run()
