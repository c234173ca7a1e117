"""What authors of plugins test with: models whose exact answers are known, and checks that hold for every model."""
