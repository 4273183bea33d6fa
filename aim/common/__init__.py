"""Code that the rooms above share: config files, progress bars, CSV tables, plotting.

Nothing here knows masking, the model or a dataset.
"""

from aim.common.config_files import ConfigError
from aim.common.tables import PERCENTILES, csv_field, write_rows

# aim.main imports this room before it parses flags, so progress (which imports jax) and plotting (matplotlib) stay out.
__all__ = ["PERCENTILES", "ConfigError", "csv_field", "write_rows"]
