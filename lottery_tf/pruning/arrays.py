"""The plain arrays that travel between packages."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Weights = dict[str, Array]  # {variable path: array}
Masks = dict[str, Array]  # {kernel path: bool array}, True where the weight lives
