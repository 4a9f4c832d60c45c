"""Stand-ins that a check hands to a method: planted labels, a spied backbone."""
