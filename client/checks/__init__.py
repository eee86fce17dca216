"""What is tested before the first run: a file for each group, each check a function that returns a finding."""
