"""Joint posteriors: a fusion rule over subsets of modalities."""
