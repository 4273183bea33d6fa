"""--mode=report: one self-contained page of a workdir, or of several side by side."""
