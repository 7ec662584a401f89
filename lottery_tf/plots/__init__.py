"""Pictures, TensorBoard's files and tables."""

from typing import Any

Row = dict[str, Any]  # {column: number or text} of a table
Columns = dict[str, tuple[str, str]]  # {column: (title, format)} to print
