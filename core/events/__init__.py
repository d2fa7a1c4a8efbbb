"""Events of objects: which are told to whom, how they wait, what a message of them says. Pure."""
