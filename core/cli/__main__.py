"""``python -m craqen.core.cli``: the command ``craqen`` by way of the interpreter that runs it."""

import sys

from .main import main

sys.exit(main())
