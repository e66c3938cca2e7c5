"""What is stored in a run folder, and how it is written so that nothing is lost."""
