"""Run the command line by `python -m napari_distill2label.cli`."""

import sys

from .main import main

sys.exit(main())
