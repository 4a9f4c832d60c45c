"""What an author of a plugin implements and is given; it imports nothing of the rest."""
