"""The storage system: knows neither HTTP nor FUSE."""
