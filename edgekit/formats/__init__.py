"""Model formats: load, save, describe. They never run a model."""
