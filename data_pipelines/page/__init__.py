"""One self-contained HTML page of sections, with a PNG and a CSV for each chart; the report and the atlas are such."""
