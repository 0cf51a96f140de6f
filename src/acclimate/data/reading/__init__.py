"""Files into batches of records: streams, formats, sources."""
