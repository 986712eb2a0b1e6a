"""Makes the YAML module that the wheel brings importable in a source checkout. Import it before stellwerk.core."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from build_wheel import yaml_wheel  # noqa: E402

sys.path.append(yaml_wheel())
