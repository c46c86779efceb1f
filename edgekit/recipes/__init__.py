"""The recipes that come with edgekit: one TOML file each."""
