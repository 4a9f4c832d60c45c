"""What is made of a sample before a method sees it, in this process or ahead in others."""
