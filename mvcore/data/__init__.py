"""Data: batches of observed rows, data sets, schemas, transforms and missingness."""
