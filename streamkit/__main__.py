"""``python -m streamkit`` is the ``streamkit`` command."""

import sys

from streamkit.cli.main import main

sys.exit(main())
