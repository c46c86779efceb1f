"""Pages that stand alone: one file each, no script, nothing fetched; whatever comes from a report is escaped."""
