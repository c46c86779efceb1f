"""The shipped targets: one TOML file each, described field by field in README.md."""
