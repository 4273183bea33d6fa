"""TFDS builder of day windows; TFDS wants every builder in a package folder of its own."""
