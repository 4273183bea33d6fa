"""A trained model in other programs' conventions, and theirs in ours: OpenMHC's protocols, PyPOTS's arrays."""
