"""Day windows: schema, sources, datasets and the loader. Knows nothing of aim."""
