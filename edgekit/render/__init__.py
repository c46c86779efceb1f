"""What a person looks at: pure functions from records to something drawn. Nothing here prints."""
