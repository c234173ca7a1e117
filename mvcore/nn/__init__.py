"""Networks that come with the core."""
