"""The policy language of AWS: what a document allows whom to do. Pure."""
