"""The base of every model, and the composed model."""
