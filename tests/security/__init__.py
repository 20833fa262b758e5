"""What gets tried on us, and what must happen: a test for each row of the attacks."""
