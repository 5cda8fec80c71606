"""Ends with one line that says what to install, where this Python cannot run the project.

Runs on any Python, however old, so it uses nothing newer than Python 2.7 knows.
"""

import sys

VERSION = "%d.%d" % sys.version_info[:2]

if sys.version_info < (3, 11):
    sys.exit(
        "lle_jax needs Python 3.11 or newer, and this is %s: install python3.12 and "
        "type `make run PYTHON=python3.12`" % VERSION
    )
try:
    import ensurepip  # noqa: F401
    import venv  # noqa: F401
except ImportError:
    sys.exit(
        "this Python has no working venv module: install it "
        "(Debian and Ubuntu: apt install python%s-venv)" % VERSION
    )
