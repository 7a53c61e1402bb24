"""`python -m anycalo`, as `torchrun -m anycalo` needs it."""

import sys

from anycalo.cli import main

sys.exit(main())
