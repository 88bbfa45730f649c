"""Golden wire samples and recordings, byte for byte."""
