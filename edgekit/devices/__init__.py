"""Ways to reach a device; the table of them stands here."""
