"""Examples that are tested, to be read and copied from."""
